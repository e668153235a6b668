"""How many nodes of a kind a config may use at once, and whether what it names is there for them: the same for each kind of cluster.

How to use: `nodes(config, "teacher", gpus=8, cpus=64)`; `check_paths(config, shared="/shared")`.
"""

import math
from pathlib import Path, PurePosixPath
from typing import Literal

from cgd_ray.cluster.jobs.upload import check_run_dir
from cgd_ray.config import Config, RoleConfig, named_paths
from cgd_ray.config.paths import is_url

Part = Literal["student", "teacher", "trainer"]


def parts(config: Config) -> list[Part]:
    """What has nodes of its own: the roles whose engines run here, and the training's workers."""
    roles: list[Part] = ["student", "teacher"]
    return [*(name for name in roles if _role(config, name).api is None), "trainer"]


def nodes(config: Config, part: Part, gpus: int, cpus: int) -> int:
    """The most that are used at once, of nodes with so many GPUs and CPUs. Raises ValueError where a piece does not fit on one."""
    count, gpus_each, cpus_each, setting = _pieces(config, part)
    if gpus_each > gpus:
        raise ValueError(f"{setting} asks for {gpus_each:g} GPUs on one node, and a node of {part} has {gpus}; give it larger nodes")
    if cpus_each > cpus:
        raise ValueError(f"{setting} asks for {cpus_each:g} CPUs on one node, and a node of {part} has {cpus}; give it larger nodes")
    by_gpus = _fitting(gpus, gpus_each)
    return math.ceil(count / max(1, min(by_gpus, _fitting(cpus, cpus_each))))


def _pieces(config: Config, part: Part) -> tuple[int, float, float, str]:
    """How many there may be, the GPUs and CPUs of each on a node, and the setting that says so."""
    if part == "trainer":
        _, most = config.training.worker_range
        return most, int(config.training.use_gpu), config.training.cpus_per_worker or 1, "training.num_workers"
    placement = _role(config, part).placement
    count = placement.max_replicas * placement.nodes_per_replica
    return count, placement.gpus_per_replica, placement.cpus_per_replica, f"{part}.placement"


def _fitting(have: float, each: float) -> int:
    """Pieces that a node holds; one without a limit of this kind holds as many as of the other."""
    return int(have / each + 1e-9) if each else 2**31


def _role(config: Config, name: Part) -> RoleConfig:
    return config.student if name == "student" else config.teacher


def check_is_directory(config: Config) -> None:
    """Raise ValueError for a run directory on an object store, where a script cannot keep what it must know of its attempts."""
    if is_url(config.run_dir):
        raise ValueError(
            f"run_dir {config.run_dir} is a URL, and this kind of script keeps its state there; give a directory of shared storage"
        )


def check_paths(config: Config, shared: str | None = None) -> None:
    """Raise ValueError for a run directory that is not written out or not in `shared`, and for files that only this machine has."""
    check_run_dir(config)
    setting, directory = ("working_dir", config.working_dir) if is_url(config.run_dir) else ("run_dir", config.run_dir)
    if directory is None:
        raise ValueError(
            f"working_dir is missing, and run_dir is {config.run_dir}, which is worked on in a directory that all nodes share; set it"
        )
    if not directory.startswith("/") or "$" in directory:
        raise ValueError(f"{setting} {directory} is not written out, and all nodes must mean the same; give it without variables")
    if shared is not None and not PurePosixPath(directory).is_relative_to(shared):
        raise ValueError(f"{setting} {directory} is not in {shared}, which all nodes mount; move it there, or set shared=")
    for setting, path in named_paths(config).items():
        if not path.startswith("/") and Path(path).exists():
            raise ValueError(
                f"{setting} {path} is a file of this machine, and the run is elsewhere; give an absolute path that all nodes see"
            )
