"""Whether what a run begins with can ever be placed on these nodes, by the run's own checks and by the bin packing of Ray's autoscaler.

How to use: `findings = list(placement(config, resources, ["generate", "train"]))`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cgd_ray.cluster.capacity import check_cluster
from cgd_ray.cluster.connection import Resources
from cgd_ray.cluster.precision import ROLES
from cgd_ray.config import Config, RoleConfig
from cgd_ray.planning.checks.findings import Finding


def placement(config: Config, resources: Resources, phases: Collection[str]) -> Iterator[Finding]:
    """Whether each phase can ever be placed: in sums, on single nodes, and all that runs together packed by Ray's own autoscaler."""
    for phase in phases:
        if (refusal := _refusal(config, resources, phase)) is not None:
            yield Finding(text=refusal, overrides=_mended(config, resources, phase), refuses=True)


def _refusal(config: Config, resources: Resources, phase: str) -> str | None:
    try:
        check_cluster(config, resources, [phase])
    except ValueError as error:
        return str(error)
    left = _not_packed(config, resources, phase)
    return f"{phase} has room in all, but not on these nodes together: {left} find no node beside the others" if left else None


def _mended(config: Config, resources: Resources, phase: str) -> dict[str, Any]:
    """The first change of those that people make which gives the phase a place; empty where none does."""
    changes = list(_changes(config, resources))
    together = {key: value for change in changes for key, value in change.items()}
    return next((change for change in [*changes, together] if _refusal(_with(config, change), resources, phase) is None), {})


def _changes(config: Config, resources: Resources) -> Iterator[dict[str, Any]]:
    """Engines no larger than the largest node, of any kind, each once; as many workers as there are GPUs or CPUs."""
    largest = max(node.resources.get("GPU", 0) for node in resources.nodes)
    for name in ROLES:
        placed = getattr(config, name).placement
        if placed.accelerator_type is not None:
            yield {f"{name}.placement.accelerator_type": None}
        if largest and placed.gpus_per_replica > largest:
            yield {f"{name}.placement.gpus_per_replica": int(largest)}
        if placed.min_replicas > 1:
            yield {f"{name}.placement.min_replicas": 1}
    kind, each = ("GPU", 1.0) if config.training.use_gpu else ("CPU", config.training.cpus_per_worker or 1.0)
    room = int(resources.most(kind) // each)
    if 0 < room < config.training.worker_range[0]:
        yield {"training.num_workers": room}
    if largest > 1:
        yield {f"{name}.placement.gpus_per_replica": 1 for name in ROLES if getattr(config, name).placement.gpus_per_replica > 1}


def _with(config: Config, overrides: Mapping[str, Any]) -> Config:
    """The config with these settings."""
    tree = config.model_dump(mode="json")
    for key, value in overrides.items():
        group, *names = key.split(".")
        place = tree[group]
        for name in names[:-1]:
            place = place[name]
        place[names[-1]] = value
    return Config.model_validate(tree)


def _not_packed(config: Config, resources: Resources, phase: str) -> str:
    """What Ray's bin packing leaves over of what the phase begins with; empty where all finds a place, or nodes of any kind may come."""
    if any(resources.most(kind) > resources.present(kind) for kind in resources.limits):
        return ""
    from ray.autoscaler._private.resource_demand_scheduler import get_bin_pack_residual

    have = [dict(node.resources) for node in resources.nodes]
    asked = [demand for name, placed in _pieces(config, phase).items() for demand in [placed] * _count(config, name)]
    left, _ = get_bin_pack_residual(have, asked)
    return ", ".join(sorted({_described(piece) for piece in left}))


def _pieces(config: Config, phase: str) -> dict[str, dict[str, float]]:
    """What each process of a phase asks Ray for on one node."""
    engines = {"generate": ROLES, "live": ROLES, "evaluate": ("student",), "train": ()}[phase]
    asked = {name: _of_engine(getattr(config, name)) for name in engines if getattr(config, name).api is None}
    if phase in ("train", "live"):
        asked["training"] = {"CPU": config.training.cpus_per_worker or 1.0, "GPU": float(config.training.use_gpu)}
    return {name: {kind: amount for kind, amount in demand.items() if amount} for name, demand in asked.items()}


def _of_engine(role: RoleConfig) -> dict[str, float]:
    placed = role.placement
    kind = {} if placed.accelerator_type is None else {f"accelerator_type:{placed.accelerator_type}": 0.001}
    return {"CPU": placed.cpus_per_replica, "GPU": placed.gpus_per_replica, **kind}


def _count(config: Config, name: str) -> int:
    if name == "training":
        return config.training.worker_range[0]
    role: RoleConfig = getattr(config, name)
    return role.placement.min_replicas * role.placement.nodes_per_replica


def _described(piece: Mapping[str, float]) -> str:
    return "(" + ", ".join(f"{amount:g} {kind}s" for kind, amount in piece.items() if not kind.startswith("accelerator")) + ")"
