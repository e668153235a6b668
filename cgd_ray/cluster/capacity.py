"""Refuses a run for which the cluster has no room, before any engine starts: GPUs and CPUs in all, and nodes that can hold each piece.

Each refusal is a ValueError of one line with the arithmetic and the remedy; what an autoscaler may still bring is waited for.
How to use: `for wait in check_cluster(config, resources, phases): screen.say(wait)`.
"""

import math
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cgd_ray.cluster.connection import Node, Resources
from cgd_ray.config import Config, PlacementConfig, TrainingConfig
from cgd_ray.training.placing import cpus_of_worker, export_bytes

PHASES = ("generate", "train", "live", "evaluate")
SMALLEST_SHARE = 1e-4  # of a resource, the unit in which Ray counts: 0.3 CPUs hold three times 0.1, which floats deny
MOST_KINDS_SHOWN = 5  # of nodes, in a message


def check_cluster(config: Config, resources: Resources, phases: Collection[str]) -> list[str]:
    """No phase ("generate", "train", "live", "evaluate") needs more GPUs or CPUs than the cluster can have, nor nodes that it cannot have.

    Returns what the run will wait for. Where generation and training are live together, their most must fit beside each other: a training
    that has grown into an engine's place would wait for that engine's records for ever.
    """
    config = _with_cpus_of_workers(config, resources.nodes)
    ordered = [phase for phase in PHASES if phase in phases]
    return [wait for phase in ordered for check in (_check_sums, _check_nodes) for wait in check(config, resources, phase)]


def check_cpus_here(config: Config, phases: Collection[str]) -> None:
    """The same of the CPUs of a Ray that is to be started on this machine, which needs no Ray to be known."""
    config, have = _with_cpus_of_workers(config, []), config.cluster.num_cpus or os.cpu_count() or 1
    for phase in (phase for phase in PHASES if phase in phases):
        demands = _demands(config, phase, grown=True)
        if (wanted := _wanted("CPU", demands)) > max(have, config.cluster.max_resources.get("CPU", 0)):
            raise ValueError(
                f"{phase} needs {wanted:g} CPUs ({_terms('CPU', demands)}), the Ray that is started on this machine has {have}; set "
                f"cluster.num_cpus={math.ceil(wanted)}, which are logical and share the real ones, or lower them"
            )


def _with_cpus_of_workers(config: Config, nodes: Sequence[Node]) -> Config:
    """The config with the CPUs that a worker gets on these nodes."""
    cpus = cpus_of_worker(config.training, [node.resources for node in nodes])
    return config.model_copy(update={"training": config.training.model_copy(update={"cpus_per_worker": cpus})})


def _terms(kind: str, demands: Sequence["_Demand"]) -> str:
    """What a sum consists of."""
    return " + ".join(f"{demand.setting} {demand.count} x {demand.of(kind):g}" for demand in demands)


def check_memory(config: Config, resources: Resources, phases: Collection[str]) -> list[str]:
    """Where checkpoints are answered, some node has the memory to export one; returns what the run will wait for."""
    if "train" not in phases or config.answering_student is None:
        return []
    needed = export_bytes(config.training, config.student.model)
    largest = max((node.resources.get("memory", 0) for node in resources.nodes), default=0)
    if needed <= largest:
        return []
    needs = (
        f"training.validation.answers exports checkpoints, which takes {needed / 2**30:.1f} GiB of one node's memory, and no node has more "
        f"than {largest / 2**30:.1f} GiB (Ray's resource `memory`)"
    )
    if all(resources.present(kind) == resources.most(kind) for kind in resources.limits):
        raise ValueError(f"{needs}; add a larger node, or set training.validation.answers to null")
    return [f"{needs}: waiting for the autoscaler to add such a node"]


def _check_sums(config: Config, resources: Resources, phase: str) -> Iterator[str]:
    """The cluster as a whole has enough for all that runs at the same time."""
    demands = _demands(config, phase, grown=True)
    for kind in ("GPU", "CPU"):
        present, most = resources.present(kind), resources.most(kind)
        wanted = _wanted(kind, demands)
        if wanted <= present:
            continue
        needs = f"{phase} needs {wanted:g} {kind}s ({_terms(kind, demands)})"
        if wanted > most:
            raise ValueError(
                f"{needs}, the cluster has {most:g}; lower them, add nodes, or set cluster.max_resources to what an autoscaler adds"
            )
        yield f"{needs}, the cluster has {present:g} and may grow to {most:g}: waiting for its autoscaler"


def _check_nodes(config: Config, resources: Resources, phase: str) -> Iterator[str]:
    """Each demand would fit on the nodes if it were alone there. Two that do so alone may still not do so together: only Ray finds out."""
    for demand in _demands(config, phase, grown=False):
        room = _room(demand, resources.nodes)
        if room >= demand.count:
            continue
        needs = f"{phase} needs {demand.setting} {demand.count} x {_needs(demand)}, {_offers(demand, resources.nodes, room)}"
        kind = "GPU" if demand.gpus else "CPU"
        if resources.present(kind) == resources.most(kind):
            raise ValueError(f"{needs}; ask for less, add such nodes, or set cluster.max_resources to what an autoscaler adds")
        yield f"{needs}: waiting for the autoscaler to add such nodes"


@dataclass(frozen=True, kw_only=True)
class _Demand:
    """What one kind of process needs."""

    setting: str
    """What says how many of them there are."""
    count: int
    cpus: float
    """Of each, on one of its nodes."""
    gpus: float
    """Of each, on every one of its nodes."""
    nodes: int = 1
    """Nodes of each, or equal shares of fewer."""
    accelerator_type: str | None = None
    label_selector: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> float:
        """CPUs or GPUs of each on all its nodes."""
        return self.cpus if kind == "CPU" else self.gpus * self.nodes


def _demands(config: Config, phase: str, grown: bool) -> list[_Demand]:
    """What a phase needs, at the fewest replicas and workers that it can run with; `grown`, at the most where both run side by side.

    A training that may grow takes all that it can get, and the engines beside it wait for it in vain.
    """
    answering = config.answering_student
    bound: Literal["min_replicas", "max_replicas"] = "max_replicas" if grown and phase == "live" else "min_replicas"
    student, teacher = (_engines(name, getattr(config, name).placement, bound) for name in ("student", "teacher"))
    workers = _workers(config.training, "most" if grown and (phase == "live" or answering is not None) else "fewest")
    if phase == "live":
        return [student, teacher, workers]
    if phase == "train":
        return [workers] if answering is None else [workers, _engines("training.validation.answers", answering.placement, bound)]
    return [student, teacher] if phase == "generate" else [student]


def _engines(name: str, placement: PlacementConfig, bound: Literal["min_replicas", "max_replicas"]) -> _Demand:
    return _Demand(
        setting=f"{name}.placement.{bound}",
        count=getattr(placement, bound),
        cpus=placement.cpus_per_replica,
        gpus=placement.gpus_per_replica,
        nodes=placement.nodes_per_replica,
        accelerator_type=placement.accelerator_type,
        label_selector=placement.label_selector,
    )


def _workers(training: TrainingConfig, bound: Literal["fewest", "most"]) -> _Demand:
    fewest, most = training.worker_range
    assert training.cpus_per_worker is not None, "settled by _with_cpus_of_workers"
    return _Demand(
        setting="training.num_workers",
        count=fewest if bound == "fewest" else most,
        cpus=training.cpus_per_worker,
        gpus=int(training.use_gpu),
    )


def _wanted(kind: str, demands: Sequence[_Demand]) -> float:
    """CPUs or GPUs of all demands together."""
    if kind == "CPU":
        return sum(demand.count * _units(demand.cpus) for demand in demands) / _units(1)
    whole = sum(demand.count * demand.of(kind) for demand in demands if demand.gpus >= 1)
    return whole + _gpus_that_hold([demand.gpus for demand in demands if 0 < demand.gpus < 1 for _ in range(demand.count)])


def _gpus_that_hold(shares: Sequence[float]) -> int:
    """GPUs that these shares fill, the largest first, each on the first GPU with room for it; none is a share of two GPUs."""
    rooms: list[int] = []
    for share in sorted(map(_units, shares), reverse=True):
        gpu = next((gpu for gpu, room in enumerate(rooms) if room >= share), len(rooms))
        if gpu == len(rooms):
            rooms.append(_units(1))
        rooms[gpu] -= share
    return len(rooms)


def _room(demand: _Demand, nodes: Sequence[Node]) -> int:
    """How many of what a demand asks for the nodes would hold if they held nothing else; at least as many as they really do."""
    fitting = [node.resources for node in nodes if _is_asked_for(node, demand)]
    first = sum(_times(have, {"CPU": demand.cpus, "GPU": demand.gpus}, demand.count) for have in fitting)
    shares = sum(_times(have, {"GPU": demand.gpus}, demand.count * demand.nodes) for have in fitting)
    return min(first, shares // demand.nodes)


def _is_asked_for(node: Node, demand: _Demand) -> bool:
    """Whether Ray would place there what the demand asks for, by the kind of the node."""
    if demand.accelerator_type is not None and not node.resources.get(f"accelerator_type:{demand.accelerator_type}", 0):
        return False
    if not demand.label_selector:
        return True
    # Ray Serve asks it the same way; it needs no cluster, and is left out of the types
    from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]

    return bool(node_labels_match_selector(dict(node.labels), dict(demand.label_selector)))


def _times(have: Mapping[str, float], need: Mapping[str, float], most: int) -> int:
    """How often a node holds something, up to `most`."""
    return min([most, *(_contains(kind, have.get(kind, 0), amount) for kind, amount in need.items() if amount)])


def _contains(kind: str, have: float, amount: float) -> int:
    """How often an amount of a resource is in what there is of it; a share of a GPU is never of two GPUs."""
    if kind == "GPU" and amount < 1:
        return int(have) * (_units(1) // _units(amount))
    return _units(have) // _units(amount)


def _units(amount: float) -> int:
    """An amount of a resource in Ray's unit, at least one of it if any."""
    return max(round(amount / SMALLEST_SHARE), int(amount > 0))


def _needs(demand: _Demand) -> str:
    traits = [f"{demand.gpus:g} GPUs", f"{demand.cpus:g} CPUs"]
    if demand.accelerator_type is not None:
        traits.append(f"accelerator_type {demand.accelerator_type}")
    traits += [f"{key} {value}" for key, value in demand.label_selector.items()]
    where = "on one node" if demand.nodes == 1 else f"on each of {demand.nodes} nodes"
    return f"({', '.join(traits)}) {where}"


def _offers(demand: _Demand, nodes: Sequence[Node], room: int) -> str:
    """What there is of what the demand names, nodes of one kind together."""
    kinds = Counter(_traits(node, demand) for node in nodes).most_common()
    shown = ", ".join(f"{count} x ({traits})" for traits, count in kinds[:MOST_KINDS_SHOWN])
    more = sum(count for _, count in kinds[MOST_KINDS_SHOWN:])
    return f"the nodes have room for {room}: {shown}" + (f" and {more} others" if more else "")


def _traits(node: Node, demand: _Demand) -> str:
    traits = [f"{node.resources.get(kind, 0):g} {kind}s" for kind in ("GPU", "CPU")]
    if demand.accelerator_type is not None:
        types = [name.partition(":")[2] for name in node.resources if name.startswith("accelerator_type:")]
        traits.append(f"accelerator_type {'/'.join(types) or 'none'}")
    traits += [f"{key} {node.labels.get(key, 'none')}" for key in demand.label_selector]
    return ", ".join(traits)
