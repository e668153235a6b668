"""One driver at a time for a run directory on an object store: whoever holds the newest version of one object.

Each sign of life replaces the version before, which the store allows to one of two drivers only. What a driver that has lost the lease
still writes is refused by the same means (snapshots.py). Cf. runs/lease.py, which does so with files.
How to use: `lease = Lease.take(store, say, take_over=False)`; `lease.show_life()` now and then; `lease.release()`.
"""

import json
import time
from dataclasses import asdict, dataclass, field, replace

from cgd_ray.process.faults import RefusedError
from cgd_ray.runs.lease import HEARTBEAT_S, STALE_HEARTBEATS, Holder, Say
from cgd_ray.runs.remote.objects import ChangedError, Objects, Tag

NAME = "lease.json"


class LostError(Exception):
    """Another driver has taken the run directory over; one line."""


@dataclass
class Lease:
    """That of this process."""

    store: Objects
    number: int
    """One more than that of the holder before."""
    tag: Tag
    _beats: int = 0
    _holder: Holder = field(default_factory=Holder.here)

    @classmethod
    def take(cls, store: Objects, say: Say, take_over: bool, heartbeat_s: float = HEARTBEAT_S) -> "Lease":
        """Become the holder. Raises RefusedError when a living driver is that, unless it is to be taken over, and StoreError."""
        found = store.read(NAME)
        if found is None:
            lease = cls(store, 1, {})
            try:
                lease.tag = store.create(NAME, lease._content())
            except ChangedError as error:
                raise _held(store, None) from error
            return lease
        content, tag = found
        number, holder = _parsed(content)
        if holder is None or holder.is_alive() is not False:
            if not take_over:
                _refuse_living(store, holder, tag, say, heartbeat_s)
            else:
                say(f"taking over {store.url}; its former driver ends within {heartbeat_s:.0f} s if it lives")
        lease = cls(store, number + 1, tag)
        for is_last in (False, False, True):  # a living holder goes on showing that
            try:
                lease.tag = store.replace(NAME, lease._content(), lease.tag)
                return lease
            except ChangedError as error:
                latest = store.read(NAME)
                if not take_over or is_last or latest is None:
                    raise _held(store, None) from error
                lease.tag = latest[1]
        raise AssertionError("the last try returns or raises")

    def show_life(self) -> None:
        """Replace what the store has. Raises LostError when that is another driver's, and StoreError."""
        self._beats += 1
        self._replace(self._content())

    def release(self) -> None:
        """Nobody holds it any more."""
        self._replace(self._content(released=True))

    def _replace(self, content: bytes) -> None:
        try:
            self.tag = self.store.replace(NAME, content, self.tag)
        except ChangedError:
            self.tag = self.store.replace(NAME, content, self._own_tag())

    def _own_tag(self) -> Tag:
        """The version that is there, which is ours where the answer to our own write was lost on its way."""
        found = self.store.read(NAME)
        number, holder = (None, None) if found is None else _parsed(found[0])
        if found is None or number != self.number or holder is None or replace(holder, released=False) != self._holder:
            by = "" if holder is None else f" by process {holder.pid} on {holder.host}"
            raise LostError(f"run_dir {self.store.url} was taken over{by}; this driver ends and writes no more")
        return found[1]

    def _content(self, released: bool = False) -> bytes:
        holder = {**asdict(self._holder), "released": released}
        return json.dumps({"number": self.number, "beats": self._beats, "holder": holder}).encode()


def _refuse_living(store: Objects, holder: Holder | None, tag: Tag, say: Say, heartbeat_s: float) -> None:
    """Raise RefusedError when the holder lives, or shows so within the time after which it counts as dead."""
    if holder is not None and holder.is_alive():
        raise _held(store, holder)
    patience_s = STALE_HEARTBEATS * heartbeat_s
    who = "another driver" if holder is None else f"a process on {holder.host}"
    say(f"{who} holds this run directory; watching for {patience_s:.0f} s whether it lives")
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        time.sleep(heartbeat_s / 5)
        found = store.read(NAME)
        if found is not None and found[1] != tag:
            raise _held(store, _parsed(found[0])[1])


def _held(store: Objects, holder: Holder | None) -> RefusedError:
    who = "another driver" if holder is None else f"process {holder.pid} on {holder.host}"
    return RefusedError(f"run_dir {store.url} is held by {who}, which is alive; wait for its end or stop it, or add --take-over to end it")


def _parsed(content: bytes) -> tuple[int, Holder | None]:
    """The number, 0 where that cannot be read, and the holder; None where another version of this package has written it."""
    try:
        found = json.loads(content)
        number = int(found["number"])
    except (ValueError, TypeError, KeyError):
        return 0, None
    try:
        return number, Holder(**found["holder"])
    except (TypeError, KeyError):
        return number, None
