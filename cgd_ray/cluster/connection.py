"""The connection to Ray: a cluster that runs already, or one that is started on this machine for this run and stopped after it.

A local one has no dashboard and, as is Ray's default for it, demands a token that Ray makes on first use.
How to use: `with connected(config.cluster): ...`.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar
from urllib.request import urlopen

from cgd_ray.config import ClusterConfig

Answer = TypeVar("Answer")
ANSWER_S = 10.0
NOT_IN_TIME = (
    "timed out during startup",
    "Failed to start GCS",
    "Failed to connect to GCS",
    "Timed out",
    "when trying to resolve node",
)
"""In the words of what ray.init() raises where Ray's own processes are not up in its time, about half a minute."""


def starts_here(cluster: ClusterConfig) -> bool:
    """Whether Ray is started on this machine, in this environment."""
    return _address(cluster) is None


@dataclass(frozen=True, kw_only=True)
class Node:
    """A live node of a cluster."""

    resources: Mapping[str, float]
    """All that it has, in use or not, as {"CPU": 16.0, "GPU": 2.0, "accelerator_type:H100": 1.0, ...}."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """As {"ray.io/market-type": "spot", ...}."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a cluster has."""

    nodes: Sequence[Node]
    limits: Mapping[str, float] = field(default_factory=dict)
    """What its autoscaler may bring all nodes together to; empty where there is none."""

    def present(self, kind: str) -> float:
        """How much of a resource all nodes have together."""
        return sum(node.resources.get(kind, 0) for node in self.nodes)

    def most(self, kind: str) -> float:
        """How much of it they may come to have."""
        return max(self.present(kind), self.limits.get(kind, 0))


@contextmanager
def connected(cluster: ClusterConfig) -> Iterator[Resources]:
    """Yield the cluster's resources. Raises ValueError, one line, when the cluster cannot be reached or Ray does not start here in time."""
    address = _address(cluster)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's 1 s ends readers and writers between two parts where engines take all CPUs; each start is a second of a core
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default: a warning less
    import ray

    try:
        if address is None:
            ray.init(address="local", num_cpus=cluster.num_cpus, include_dashboard=False, logging_level=logging.WARNING)
        else:
            context = ray.init(address=address, logging_level=logging.WARNING)
            _check_dashboard(context.dashboard_url, cluster)
    except ConnectionError as error:
        raise ValueError(
            f"cluster.address {address} cannot be reached ({str(error).splitlines()[0]}); start Ray there or set it to null"
        ) from None
    except Exception as error:  # Ray has no class of its own for it
        if (fault := start_fault(error, address)) is None:
            raise
        raise ValueError(fault) from error
    try:
        nodes = [Node(resources=node["Resources"], labels=node["Labels"]) for node in ray.nodes() if node["Alive"]]
        yield Resources(nodes=nodes, limits=cluster.max_resources)
    finally:
        ray.shutdown()


def start_fault(error: Exception, address: str | None) -> str | None:
    """One line on a Ray that was not there in time, where that is what ray.init() has raised; None for what else it raises."""
    if not any(words in str(error) for words in NOT_IN_TIME):
        return None
    why = str(error).splitlines()[0].strip()
    if address is not None:
        return f"cluster.address {address} does not answer in time ({why}); see whether its head is overloaded, and try again"
    return (
        f"Ray did not start on this machine in its time ({why}); end what else keeps the machine busy and run the same command again, or "
        "start Ray before (`ray start --head`) and set cluster.address=auto"
    )


def _check_dashboard(url: str | None, cluster: ClusterConfig) -> None:
    """Leave the cluster and raise ValueError when anybody who reaches its dashboard may run jobs on it."""
    if cluster.allow_open_dashboard or is_of_this_machine(url) or not takes_jobs_of_anybody(f"http://{url}"):
        return
    import ray

    ray.shutdown()
    raise ValueError(
        f"cluster.address: the dashboard at {url} runs jobs of whoever reaches it; start Ray with RAY_AUTH_MODE=token on all nodes, or set "
        "cluster.allow_open_dashboard=true where nobody else does"
    )


def is_of_this_machine(url: str | None) -> bool:
    """Whether a dashboard, as HOST:PORT, is none or one that no other machine reaches."""
    host = (url or "").rpartition(":")[0].strip("[]")
    try:
        return host in ("", "localhost") or ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def takes_jobs_of_anybody(url: str) -> bool:
    """Whether a job server answers who has no token; one that cannot be reached from here does not."""
    try:
        with urlopen(f"{url}/api/jobs/", timeout=ANSWER_S):  # noqa: S310  (Ray's own address)
            return True
    except OSError:  # HTTP errors too
        return False


def on_every_node(question: Callable[..., Answer], *arguments: object) -> list[Answer]:
    """What each live node answers; the function and its arguments cross processes."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0)(question)
    nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=True) for node in ray.nodes() if node["Alive"]]
    answers: list[Answer] = ray.get([task.options(scheduling_strategy=node).remote(*arguments) for node in nodes])
    return answers


def _address(cluster: ClusterConfig) -> str | None:
    return cluster.address or os.environ.get("RAY_ADDRESS")
