"""A script for sbatch that starts Ray on the job's nodes, runs the config on it and ends as that ended.

How to use: `cgd cluster render CONFIG --kind slurm --set environment=/shared/cgd > run.sbatch`; `sbatch run.sbatch`.
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from cgd_ray.cluster.rendering.demands import check_is_directory, check_paths
from cgd_ray.cluster.rendering.templates import filled_in
from cgd_ray.config import Config, RoleConfig, parse_settings, to_yaml
from cgd_ray.config.base import Count, Settings

PORTS = 20_000, 10_000
"""The first one of the head, and how many: each job of a machine gets another one, below those that the system gives away."""


class SlurmValues(Settings):
    """What the config does not say."""

    environment: str
    """Virtual environment with this package, at the same path on all nodes."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "cgd"
    """Of the job."""
    nodes: Count | None = None
    """Null takes as many as the config needs at once."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 8
    """0 for nodes without any."""
    cpus_per_node: Count | None = None
    """Null takes all."""
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d\d){0,2}$")] = "24:00:00"
    """Longest time, as Slurm writes it; the job goes on in another one after it."""
    partition: str | None = None
    """Null takes the default."""
    account: str | None = None
    """Null takes the default."""
    hub_cache: str | None = None
    """HF_HOME on all nodes, on storage that they share; null leaves it as it is."""

    @model_validator(mode="after")
    def _words_are_words(self) -> "SlurmValues":
        for name in ("partition", "account"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[A-Za-z0-9._-]+", value):
                raise ValueError(f"{name} is {value!r}; give a name of letters, digits, dots and dashes")
        return self


def render_slurm(config: Config, overrides: Sequence[str]) -> str:
    """The script. Raises ValueError, one line, for values that are missing or do not fit the config."""
    values = parse_settings(SlurmValues, overrides)
    check_is_directory(config)
    check_paths(config)
    needed = nodes_needed(config, values)
    if values.nodes is not None and values.nodes < needed:
        raise ValueError(f"nodes is {values.nodes}, and the config needs {needed} with {values.gpus_per_node} GPUs each at once; raise it")
    first, count = PORTS
    return filled_in(
        "slurm.sbatch.j2",
        values=values,
        nodes=values.nodes or needed,
        config=to_yaml(config).rstrip(),
        run_dir=config.run_dir,
        first_port=first,
        num_ports=count,
    )


def nodes_needed(config: Config, values: SlurmValues) -> int:
    """So many that each phase finds its GPUs; one where there are none."""
    if values.gpus_per_node == 0:
        return 1
    roles: list[RoleConfig] = [role for role in (config.student, config.teacher) if role.api is None]
    engines = sum(role.placement.min_replicas * role.placement.nodes_per_replica * role.placement.gpus_per_replica for role in roles)
    workers = config.training.worker_range[0] if config.training.use_gpu else 0
    most = engines + workers if config.training.streaming else max(engines, workers)
    return max(1, math.ceil(most / values.gpus_per_node))
