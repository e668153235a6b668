"""One driver at a time writes a run directory: it holds the newest of numbered files, shows that it lives, and ends when it has lost it.

Why: whoever starts jobs again, as KubeRay does (kuberay#5211), may do so while the former driver still writes. Only one of two can create
the next number; who takes over removes the number before, which its holder notices with its next sign of life and ends. A holder on this
machine is looked up among the processes; another one counts as dead when its file has shown no sign for long. Clocks of machines
are not compared, and files are opened before they are looked at, since NFS shows what is behind an open file only.
How to use: `with leased(run.lease, screen.say, take_over=False): ...` around all that writes.
"""

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cgd_ray.data.rundir import write_json
from cgd_ray.process.faults import RefusedError

HEARTBEAT_S = 5.0
STALE_HEARTBEATS = 6
"""Without any of these a holder counts as dead: several times what a slow disk or a busy machine takes."""
EXIT_LOST = 1
REMOVED = (errno.ENOENT, errno.ESTALE)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Which process holds a lease. All of it together is one process for ever."""

    host: str
    boot: str
    """Of its machine, a number that each start makes anew."""
    namespace: str
    """In which its `pid` means something; containers have their own."""
    pid: int
    begun: int
    """When it started, in ticks since the boot: pids come again."""
    released: bool = False
    """Whether it has ended in order."""

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        _, begun = _state_and_start(os.getpid())
        return cls(host=socket.gethostname(), boot=_boot(), namespace=_namespace(), pid=os.getpid(), begun=begun)

    def is_alive(self) -> bool | None:
        """Whether the process is there; None where this machine cannot tell."""
        if self.released:
            return False
        if (self.boot, self.namespace) != (_boot(), _namespace()):
            return None
        try:
            state, begun = _state_and_start(self.pid)
        except OSError:
            return False
        return begun == self.begun and state not in "ZX"


@contextmanager
def leased(directory: Path, say: Say, take_over: bool = False, heartbeat_s: float = HEARTBEAT_S) -> Iterator[int]:
    """Hold the lease of a run while the body runs, and yield its number; the process ends with one line when another takes over.

    Raises RefusedError when a living process holds it, unless it is to be taken over.
    """
    lease = _take(directory, say, take_over, heartbeat_s)
    ended = threading.Event()
    threading.Thread(target=_show_life, args=(lease, say, ended, heartbeat_s), daemon=True, name="lease").start()
    try:
        yield int(lease.stem)
    finally:
        ended.set()
        if lease.exists():
            write_json(lease, asdict(Holder.here()) | {"released": True})


def may_be_held(directory: Path) -> bool:
    """Whether a process that lives, or of which this machine cannot tell, holds the lease."""
    newest = _newest(directory)
    holder = None if newest is None else _holder(newest)
    return holder is not None and holder.is_alive() is not False


def _take(directory: Path, say: Say, take_over: bool, heartbeat_s: float) -> Path:
    """Create the next number, once the newest is nobody's any more."""
    directory.mkdir(parents=True, exist_ok=True)
    before = _newest(directory)
    is_alive = before is not None and _may_be_held(before, say, take_over, heartbeat_s)
    lease = directory / f"{1 + (0 if before is None else int(before.stem)):06d}.json"
    try:
        with lease.open("x", encoding="utf-8") as file:
            json.dump(asdict(Holder.here()), file)
    except FileExistsError:
        raise _held(lease, _holder(lease)) from None
    except OSError:
        lease.unlink(missing_ok=True)  # a full disk may still have room for a name
        raise
    if before is not None:
        before.unlink(missing_ok=True)
    if is_alive:
        say(f"taking over {_run_dir(lease)}; its former driver ends within {heartbeat_s:.0f} s if it lives")
        time.sleep(2 * heartbeat_s)
    return lease


def _may_be_held(lease: Path, say: Say, take_over: bool, heartbeat_s: float) -> bool:
    """Whether somebody may yet write who holds the lease that is to be taken over. Raises RefusedError when it is and must not be taken."""
    holder = _holder(lease)
    is_alive = None if holder is None else holder.is_alive()
    if is_alive is False:
        return False
    if not take_over and (is_alive or _shows_life(lease, holder, say, heartbeat_s)):
        raise _held(lease, holder)
    return True


def _held(lease: Path, holder: Holder | None) -> RefusedError:
    who = "another driver" if holder is None else f"process {holder.pid} on {holder.host}"
    return RefusedError(
        f"run_dir {_run_dir(lease)} is held by {who}, which is alive; wait for its end or stop it, or add --take-over to end it"
    )


def _shows_life(lease: Path, holder: Holder | None, say: Say, heartbeat_s: float) -> bool:
    """Watch the lease of a process that cannot be looked up here, until it shows a sign of life or has not for long."""
    who, patience_s = "another driver" if holder is None else f"a process on {holder.host}", STALE_HEARTBEATS * heartbeat_s
    say(f"{who} holds this run directory; watching for {patience_s:.0f} s whether it lives")
    first, deadline = _sign(lease), time.monotonic() + patience_s
    while time.monotonic() < deadline:
        time.sleep(heartbeat_s / 5)
        now = _holder(lease)
        if now is not None and now.released:
            return False
        if _sign(lease) != first:
            return True
    return False


def _show_life(lease: Path, say: Say, ended: threading.Event, heartbeat_s: float) -> None:
    """Touch the lease now and then; end the process when it has been taken."""
    while not ended.wait(heartbeat_s):
        try:
            with lease.open("rb") as file:
                os.utime(file.fileno())
        except OSError as error:
            if error.errno not in REMOVED or ended.is_set():
                continue  # the storage is away: so it is for all others
            newest = _newest(lease.parent)
            holder = None if newest is None else _holder(newest)
            by = "" if holder is None else f" by process {holder.pid} on {holder.host}"
            say(f"run_dir {_run_dir(lease)} was taken over{by}; this driver ends and writes no more")
            os._exit(EXIT_LOST)


def _run_dir(lease: Path) -> Path:
    return lease.parent.parent.parent


def _newest(directory: Path) -> Path | None:
    return max(directory.glob("[0-9]*.json"), default=None)


def _holder(lease: Path) -> Holder | None:
    """Who holds it; None where that is just being written, or was not in time."""
    try:
        return Holder(**json.loads(lease.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _sign(lease: Path) -> int | None:
    """When it was last touched, by its machine's clock; None when it is gone."""
    try:
        with lease.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _state_and_start(pid: int) -> tuple[str, int]:
    """The state of a process and the tick at which it started, as proc(5) has them behind the name. Raises OSError when it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[19])
