"""What is wrong with a plan, and the smallest change that mends it.

How to use: `findings = [*contexts(...), *memory_of_training(...)]`, and placement.py's; one that `refuses` ends a run before it begins.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cgd_ray.config import Config, RoleConfig
from cgd_ray.planning.hardware import Machine, Machines
from cgd_ray.planning.memory.serving import GIB, EngineMemory, engine_memory
from cgd_ray.planning.memory.training import smallest_that_fits, training_memory
from cgd_ray.planning.models.facts import ModelFacts
from cgd_ray.planning.ranges import Range
from cgd_ray.planning.times.speeds import driver_rows_per_s

CERTAIN = 0.75
"""Share of a rank's planned memory that it takes for sure, as plans came out up to 1.22 times too high (docs/benchmarks.md): a run is
refused where not even that is there."""
OWN_MEMORY = ("quantization", "cpu_offload_gb", "kv_cache_memory_bytes", "kv_offloading_size", "hf_overrides")
"""Engine arguments with which an engine's memory is another one than is planned, so that nothing is said of it."""
HOST_RESERVE_GIB = 8.0
"""Of a node's memory, for Ray, its object store's floor and the system."""
BUSY_DRIVER = 0.6
"""Share of the rows that a driver can hand out, above which engines begin to wait for it."""
LARGER_BATCHES = (32, 64, 128, 256, 512, 1024)
FEW_PLACES = 8
"""Requests at once, below which an engine's GPU mostly waits for its memory."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line for the user."""

    text: str
    """What is wrong, with the arithmetic."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """The smallest change that mends it, where there is one."""
    refuses: bool = False
    """Whether the run cannot work."""

    def __str__(self) -> str:
        return f"{self.text}{self.remedy}"

    @property
    def remedy(self) -> str:
        """To be pasted behind the command."""
        words = " ".join(f"{key}={json.dumps(value)}" for key, value in self.overrides.items())
        return f"; {words}" if words else ""


def contexts(config: Config, facts: Mapping[str, ModelFacts], longest_prompt: Mapping[str, float]) -> Iterator[Finding]:
    """Every context is one that its model was made for, and holds its prompts and answers."""
    for name, model in facts.items():
        role: RoleConfig = getattr(config, name)
        limit = model.longest_context
        if limit is not None and role.context_length > limit:
            yield Finding(
                text=f"{name}.context_length is {role.context_length} and {role.model} was made for {limit} tokens",
                overrides={f"{name}.context_length": limit},
                refuses=True,
            )
        needed = math.ceil(longest_prompt[name] + role.sampling.max_tokens)
        if role.api is None and needed > role.context_length:
            yield Finding(
                text=f"{name}: a usual prompt of {longest_prompt[name]:,.0f} tokens and sampling.max_tokens {role.sampling.max_tokens} are "
                f"{needed:,} together, and context_length is {role.context_length}: answers end there",
                overrides=_longer(name, role, needed, limit),
            )
    limit = facts["student"].longest_context
    if limit is not None and config.training.context_length > limit:
        yield Finding(
            text=f"training.context_length is {config.training.context_length} and {config.student.model} was made for {limit} tokens: "
            "packed examples may have as many together, and a single one more than the model has seen",
            overrides={"training.context_length": limit},
        )


def _longer(name: str, role: RoleConfig, needed: int, limit: int | None) -> dict[str, Any]:
    """A context for all of it, or where the model was made for less, answers that fit."""
    if limit is None or needed <= limit:
        return {f"{name}.context_length": needed}
    return {f"{name}.sampling.max_tokens": role.sampling.max_tokens - (needed - limit), f"{name}.context_length": limit}


def memory_of_engine(name: str, role: RoleConfig, facts: ModelFacts, machine: Machine | None) -> Iterator[Finding]:
    """The GPUs of an engine hold its weights and at least one request of its longest."""
    gpu = None if machine is None else machine.accelerator
    if role.placement.gpus_per_replica == 0 or gpu is None or not role.engine.keys().isdisjoint(OWN_MEMORY):
        return
    if role.placement.gpus_per_replica >= 1 and facts.num_attention_heads % int(role.placement.gpus_per_replica):
        assert machine is not None, "it has the GPU"
        yield Finding(
            text=f"{name}.placement.gpus_per_replica is {role.placement.gpus_per_replica:g}, which does not divide the "
            f"{facts.num_attention_heads} heads of {role.model}",
            overrides={f"{name}.placement.gpus_per_replica": _dividing(role, facts, machine)},
            refuses=True,
        )
        return
    memory = engine_memory(role, facts, gpu.memory_bytes)
    if memory.cached_tokens < role.context_length:
        yield _too_large(name, role, facts, machine, memory)
    elif memory.places(role.context_length / 2, role.placement.requests_in_flight) < min(FEW_PLACES, role.placement.requests_in_flight):
        yield Finding(
            text=f"{name}: the cache of one engine holds {memory.cached_tokens:,} tokens, which are few requests at once; more GPUs for "
            "each engine would be faster"
        )


def _dividing(role: RoleConfig, facts: ModelFacts, machine: Machine) -> int:
    """The next larger number of a node's GPUs that divides the heads, or where there is none the largest."""
    dividing = [number for number in (1, 2, 4, 8) if facts.num_attention_heads % number == 0 and number <= machine.gpus]
    return next((number for number in dividing if number > role.placement.gpus_per_replica), dividing[-1])


def _too_large(name: str, role: RoleConfig, facts: ModelFacts, machine: Machine | None, memory: EngineMemory) -> Finding:
    """The arithmetic, and the fewest GPUs of a node, or the longest context, that would do.

    It refuses where a request would not fit even without workspace, and if layers with a window kept nothing.
    """
    assert machine is not None, "the caller has its GPUs"
    assert machine.accelerator is not None, "the caller has its GPUs"
    gpu, gpus = machine.accelerator, role.placement.gpus_of_replica
    text = (
        f"{name}: {gpus:g} x {gpu.name} of {gpu.memory_bytes / GIB:.0f} GiB hold {memory.weights / GIB:.1f} GiB of weights and "
        f"{memory.workspace / GIB:.1f} GiB of workspace each, and what is left is room for {memory.cached_tokens:,} tokens, less than one "
        f"request of context_length {role.context_length:,}"
    )
    whole = 1 - facts.size.num_sliding_layers / max(1, facts.size.num_attention_layers)
    refuses = memory.cache + memory.workspace < role.context_length * memory.cache_bytes_per_token * whole
    for number in (1, 2, 4, 8):
        if gpus < number <= machine.gpus and facts.num_attention_heads % number == 0:
            larger = role.model_copy(update={"placement": role.placement.model_copy(update={"gpus_per_replica": float(number)})})
            if engine_memory(larger, facts, gpu.memory_bytes).cached_tokens >= role.context_length:
                return Finding(text=text, overrides={f"{name}.placement.gpus_per_replica": number}, refuses=refuses)
    if memory.cached_tokens >= 1024:
        return Finding(text=text, overrides={f"{name}.context_length": memory.cached_tokens // 1024 * 1024}, refuses=refuses)
    return Finding(
        text=f"{text}; no number of GPUs of one such node holds it: take larger GPUs, or a smaller or quantised model", refuses=refuses
    )


def memory_of_training(config: Config, facts: ModelFacts, machines: Machines, target_share: float) -> Iterator[Finding]:
    """A rank fits on its GPU, else the run is refused, and in its share of the node's memory, else it is told: that may be swapped."""
    training, (world_size, _) = config.training, config.training.worker_range
    machine = machines.for_type(None) if training.use_gpu else max(machines.nodes, key=lambda node: node.memory_gib)
    if machine is None:
        return
    per_node = min(world_size, machine.gpus) if training.use_gpu else math.ceil(world_size / machines.num_nodes)
    host = (machine.memory_gib - HOST_RESERVE_GIB * training.use_gpu) * GIB / per_node
    device = machine.accelerator.memory_bytes if training.use_gpu and machine.accelerator is not None else host
    memory = training_memory(training, facts, world_size, target_share)
    certain = training.use_gpu and not training.deepspeed  # further settings may place and size what is planned here
    for what, needed, have in (("GPU", memory.device_bytes, device), ("host memory", memory.host_bytes, host)):
        if needed <= have:
            continue
        fitting = smallest_that_fits(training, facts, world_size, device, host)
        parts = memory.device if what == "GPU" else memory.host
        largest = ", ".join(f"{name} {amount / GIB:.1f}" for name, amount in sorted(parts.items(), key=lambda part: -part[1])[:4])
        where = what if training.use_gpu else "host memory"
        text = f"training: a rank needs {needed / GIB:.1f} GiB of {where} at its highest ({largest}) and has {have / GIB:.1f}"
        if fitting is None:
            text += "; no stage, checkpointing or offloading of these settings fits: take more workers, or lower training.context_length"
        changed = {} if fitting is None else _changed(training.model_dump(mode="json"), fitting.model_dump(mode="json"))
        yield Finding(text=text, overrides=changed, refuses=certain and what == "GPU" and CERTAIN * needed > have)


def pace_of_driver(config: Config, rows_per_s: float | None) -> Iterator[Finding]:
    """One driver hands out rows faster than all engines finish them."""
    batch_size = config.generation.batch_size
    if rows_per_s is None or rows_per_s <= BUSY_DRIVER * driver_rows_per_s(batch_size):
        return
    enough = next((size for size in LARGER_BATCHES if rows_per_s <= BUSY_DRIVER * driver_rows_per_s(size)), None)
    text = (
        f"the engines may finish {rows_per_s:,.0f} rows a second, and with generation.batch_size {batch_size} one driver hands out "
        f"{driver_rows_per_s(batch_size):,.0f} at most"
    )
    if enough is None:
        yield Finding(text=f"{text}; divide the problems over several runs, and train on their records together (generation.reuse)")
    else:
        yield Finding(text=text, overrides={"generation.batch_size": enough})


def money_of_endpoint(config: Config, money: Range | None) -> Iterator[Finding]:
    """What the teacher's endpoint will be paid is below the limit that was set."""
    api = config.teacher.api
    if api is not None and api.max_cost is not None and money is not None and money.likely > api.max_cost:
        yield Finding(
            text=f"teacher.api.max_cost is {api.max_cost:g} and all records are likely to cost {money.likely:,.0f} {api.currency} "
            f"({money.low:,.0f} to {money.high:,.0f}): the run will end before they are made",
            overrides={"teacher.api.max_cost": math.ceil(money.high)},
        )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {f"training.{name}": value for name, value in after.items() if value != before[name]}
