"""The connection to Ray: a cluster that runs already, or one that is started on this machine for this run and stopped after it.

A local one has no dashboard and, as is Ray's default for it, demands a token that Ray makes on first use.
How to use: `with connected(config.cluster): ...`.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cgd_ray.config import ClusterConfig


def starts_here(cluster: ClusterConfig) -> bool:
    """Whether Ray is started on this machine, in this environment."""
    return _address(cluster) is None


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a cluster has, as {"CPU": 16.0, "GPU": 2.0, ...}."""

    present: Mapping[str, float]
    most: Mapping[str, float]
    """What its autoscaler may bring it to; the same where there is none."""


@contextmanager
def connected(cluster: ClusterConfig) -> Iterator[Resources]:
    """Yield the cluster's resources. Raises ValueError when the cluster cannot be reached."""
    address = _address(cluster)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default: a warning less
    import ray

    try:
        if address is None:
            ray.init(address="local", num_cpus=cluster.num_cpus, include_dashboard=False, logging_level=logging.WARNING)
        else:
            ray.init(address=address, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise ValueError(
            f"cluster.address {address} cannot be reached ({str(error).splitlines()[0]}); start Ray there or set it to null"
        ) from None
    try:
        present = ray.cluster_resources()
        # the autoscaler tells its limits here alone; Ray Train asks it the same way
        limits = ray._private.state.state.get_max_resources_from_cluster_config() or {}
        yield Resources(present=present, most={name: max(present.get(name, 0), limits.get(name, 0)) for name in {*present, *limits}})
    finally:
        ray.shutdown()


def _address(cluster: ClusterConfig) -> str | None:
    return cluster.address or os.environ.get("RAY_ADDRESS")
