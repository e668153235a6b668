"""Several machines on this one: Ray nodes that share nothing but a directory, each with a network, a hostname and processes of its own.

Each is in namespaces of its own, on a bridge in another one's, so neither this machine's network nor its Ray is touched; /tmp and /dev/shm
are a node's own. Needs root and namespaces. What is started ends with the lab's first process, whatever happens to the test.
How to use: `with lab(tmp_path) as machines: machines.start_head(); machines.add_node(1); machines.run("client", [...])`.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

NETWORK = "10.77.0"
CLIENT, HEAD = f"{NETWORK}.254", f"{NETWORK}.1"
"""Addresses of the machine that submits jobs, and of the head."""
DASHBOARD = f"http://{HEAD}:8265"
SHARED = Path("/mnt/shared")
"""What all nodes see, at this path."""
MAX_NODES = 9
PATIENCE_S = 120
REPOSITORY = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
UNSHARE = ("unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child")
NODE = """
set -e
hostname "$NAME"
mount -t tmpfs tmpfs /mnt
mkdir /mnt/shared /mnt/repository
mount --bind "$SHARED" /mnt/shared
mount --bind "$REPOSITORY" /mnt/repository
mount --bind /mnt/shared/hosts /etc/hosts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs -o size=2g tmpfs /dev/shm
mkdir -p "$REPOSITORY"
mount --bind /mnt/repository "$REPOSITORY"
ip link set lo up
until ip link show eth0 > /dev/null 2>&1; do sleep 0.05; done
ip addr add "$ADDRESS/24" dev eth0
ip link set eth0 up
eval "$SET_UP"
cd "$REPOSITORY"
exec "$@"
"""


def why_not() -> str | None:
    """What keeps this machine from having a lab; None where nothing does."""
    if os.geteuid() != 0:
        return "namespaces with networks of their own need root"
    if subprocess.run([*UNSHARE, "ip", "link", "add", "br0", "type", "bridge"], capture_output=True).returncode:
        return "this machine allows no network namespaces, or has no `ip`"
    return None


class Lab:
    """The machines."""

    def __init__(self, root: Path) -> None:
        self.shared, self._logs = root / "shared", root / "logs"
        for directory in (self.shared, self._logs):
            directory.mkdir()
        names = [f"{NETWORK}.{number} {_name(number)}" for number in range(1, MAX_NODES + 1)]
        (self.shared / "hosts").write_text("\n".join(["127.0.0.1 localhost", f"{CLIENT} client", *names]) + "\n")
        self._nodes, self._pids = dict[int, "subprocess.Popen[bytes]"](), dict[int, int]()
        self.set_up = ""
        """What each machine does before its command, where that is more than Ray."""
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.shared / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{RAY.parent}:{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
        }
        (self.shared / "token").write_text(secrets.token_hex())
        self._first = subprocess.Popen([*UNSHARE, "sleep", "infinity"])
        self._pid = _descendant(self._first.pid, "sleep")
        for words in ("link set lo up", "link add br0 type bridge", f"addr add {CLIENT}/24 dev br0", "link set br0 up"):
            self._ip(words)

    def start_head(self, num_cpus: int = 0) -> None:
        """The first node, with the dashboard."""
        options = ["--head", "--port=6379", "--dashboard-host=0.0.0.0", "--dashboard-port=8265", f"--num-cpus={num_cpus}"]
        self.start(1, _ray(1, options))
        self._wait_for_dashboard()

    def add_node(self, number: int, num_cpus: int = 2) -> None:
        """Another node, by its number from 2 on."""
        self.start(number, _ray(number, [f"--address={HEAD}:6379", f"--num-cpus={num_cpus}"]))

    def start(self, number: int, command: Sequence[str], set_up: str = "") -> None:
        """A node that is what a command makes of it, after some lines of the shell."""
        address = f"{NETWORK}.{number}"
        told = {"NAME": _name(number), "ADDRESS": address, "SHARED": self.shared, "REPOSITORY": REPOSITORY}
        inside = ["nsenter", f"--target={self._pid}", "--net", "--", *UNSHARE, "bash", "-c", NODE, "node", *command]
        environment = self.told({name: str(value) for name, value in told.items()}) | {"RAY_AUTH_TOKEN_PATH": str(SHARED / "token")}
        with (self._logs / f"{_name(number)}.log").open("ab") as log:
            self._nodes[number] = process = subprocess.Popen(inside, env={**environment, "SET_UP": set_up}, stdout=log, stderr=log)
        self._pids[number] = _descendant(process.pid, "bash")
        self._ip(f"link add v{number} type veth peer name eth0 netns {self._pids[number]}")
        self._ip(f"link set v{number} master br0")
        self._ip(f"link set v{number} up")

    def on_node(self, number: int, command: Sequence[str | Path], **environment: str) -> "subprocess.CompletedProcess[str]":
        """A command on a node."""
        inside = ["nsenter", f"--target={self._pids[number]}", "--mount", "--net", "--uts", "--pid", "--", *map(str, command)]
        return subprocess.run(inside, env=self.told(environment), capture_output=True, text=True, timeout=PATIENCE_S)

    def kill_node(self, number: int) -> None:
        """As when the power fails."""
        process = self._nodes.pop(number)
        process.kill()
        process.wait()
        self._ip(f"link delete v{number}", check=False)  # the kernel does so too, a little later, or has done so

    def cut(self, number: int, is_cut: bool) -> None:
        """Take a node's network away, or give it back."""
        self._ip(f"link set v{number} {'down' if is_cut else 'up'}")

    def run(self, command: Sequence[str | Path], timeout_s: float, **environment: str) -> "subprocess.CompletedProcess[str]":
        """A command on the machine that submits jobs."""
        return subprocess.run(self.on_client(command), env=self.told(environment), capture_output=True, text=True, timeout=timeout_s)

    def on_client(self, command: Sequence[str | Path]) -> list[str]:
        """The command line that runs a command there."""
        return ["nsenter", f"--target={self._pid}", "--net", "--", *map(str, command)]

    def told(self, further: Mapping[str, str]) -> dict[str, str]:
        """The environment of all machines, with further variables; empty ones are taken out."""
        return {name: value for name, value in {**self.environment, **further}.items() if value}

    def log(self, number: int) -> str:
        """What a node has said."""
        return (self._logs / f"{_name(number)}.log").read_text()

    def close(self) -> None:
        """End everything."""
        self._first.kill()
        self._first.wait()
        for process in self._nodes.values():
            process.kill()
            process.wait()

    def _ip(self, words: str, check: bool = True) -> None:
        command = ["nsenter", f"--target={self._pid}", "--net", "--", "ip", *words.split()]
        subprocess.run(command, check=check, stderr=None if check else subprocess.DEVNULL)

    def _wait_for_dashboard(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.run(["curl", "--silent", DASHBOARD], timeout_s=30).returncode:
            assert time.monotonic() < deadline, self.log(1)
            assert self._nodes[1].poll() is None, self.log(1)
            time.sleep(0.5)


@contextmanager
def lab(root: Path) -> Iterator[Lab]:
    """Machines that are gone afterwards."""
    machines = Lab(root)
    try:
        yield machines
    finally:
        machines.close()


def _ray(number: int, options: Sequence[str]) -> list[str]:
    return [str(RAY), "start", "--block", f"--node-ip-address={NETWORK}.{number}", "--object-store-memory=200000000", *options]


def _name(number: int) -> str:
    return "head" if number == 1 else f"node-{number}"


def _descendant(pid: int, name: str) -> int:
    """The process with a name that another has started."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for process in psutil.Process(pid).children(recursive=True):
            if process.name() == name:
                found: int = process.pid
                return found
        time.sleep(0.05)
    raise AssertionError(f"process {pid} has started no {name}")
