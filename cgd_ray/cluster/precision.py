"""In which precision each model computes: settled once for a run, for all its nodes alike, so that a mixed cluster never mixes.

`auto` is bf16 where every device that may run the model computes it natively, else fp32: CPUs without AVX-512 take six times as long for a
bf16 product as for one in fp32. What was settled is in the run directory's config, and holds when the run goes on elsewhere.
How to use: `config = settle(config, resources)` with Ray there, for a run that begins; `as_begun(config, recorded)` for one that goes on.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from cgd_ray.cluster.connection import Resources, on_every_node
from cgd_ray.config import Config, PlacementConfig, RoleConfig

WITHOUT_BF16 = frozenset({"V100", "P100", "T4", "P4", "K80", "AMD-Radeon-R9-200-HD-7900", "AMD-Radeon-HD-7900"})
"""Accelerators, as Ray names their types, that have no bf16 arithmetic."""
BF16_FLAGS = frozenset({"avx512bw", "asimdbf16", "bf16"})
"""Flags of /proc/cpuinfo, any of which lets oneDNN compute in bf16 without emulation; the first is x86's, the others Arm's."""
LIMITS = {"ATEN_CPU_CAPABILITY": ("default", "avx2"), "ONEDNN_MAX_CPU_ISA": ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")}
"""Environment variables of torch and oneDNN, and the values with which neither uses AVX-512 though it is there."""
ROLES = ("student", "teacher")


def settle(config: Config, resources: Resources) -> Config:
    """The config with a precision in the place of each `auto`."""
    cpus = _CpuKind()
    update: dict[str, object] = {}
    for name in ROLES:
        role: RoleConfig = getattr(config, name)
        if role.api is None and "dtype" not in role.engine:
            dtype = "bfloat16" if _is_native(role.placement, resources, cpus) else "float32"
            update[name] = role.model_copy(update={"engine": {**role.engine, "dtype": dtype}})
    if config.training.precision == "auto":
        workers = PlacementConfig(gpus_per_replica=float(config.training.use_gpu))
        precision = "bf16" if _is_native(workers, resources, cpus) else "fp32"
        update["training"] = config.training.model_copy(update={"precision": precision})
    return config.model_copy(update=update)


def as_begun(config: Config, recorded: Config) -> Config:
    """The config with the precisions that its run was begun with in the place of each `auto`; a model's own was not recorded."""
    update: dict[str, object] = {}
    for name in ROLES:
        role, begun = getattr(config, name), getattr(recorded, name)
        if "dtype" not in role.engine and "dtype" in begun.engine:
            update[name] = role.model_copy(update={"engine": {**role.engine, "dtype": begun.engine["dtype"]}})
    if config.training.precision == "auto":
        update["training"] = config.training.model_copy(update={"precision": recorded.training.precision})
    return config.model_copy(update=update)


def chosen(config: Config) -> dict[str, str | None]:
    """The precision of each engine, null where an endpoint has it or it is the model's own, and of the training."""
    roles: Mapping[str, RoleConfig] = {name: getattr(config, name) for name in ROLES}
    return {**{name: role.engine.get("dtype") for name, role in roles.items()}, "training": config.training.precision}


def computes_bf16(cpu_flags: frozenset[str], environment: Mapping[str, str]) -> bool:
    """Whether a CPU with these flags has bf16 kernels in torch and oneDNN under this environment."""
    is_limited = any(environment.get(name) in values for name, values in LIMITS.items())
    return not is_limited and not BF16_FLAGS.isdisjoint(cpu_flags)


def this_cpu_computes_bf16() -> bool:
    """Of the machine of this process."""
    return computes_bf16(frozenset(_cpu_flags()), os.environ)


class _CpuKind:
    """Whether all nodes' CPUs compute bf16; they are asked once, and only where a model runs on CPUs."""

    def __init__(self) -> None:
        self._answer: bool | None = None

    def computes_bf16(self) -> bool:
        if self._answer is None:
            self._answer = all(on_every_node(this_cpu_computes_bf16))
        return self._answer


def _is_native(placement: PlacementConfig, resources: Resources, cpus: _CpuKind) -> bool:
    """Whether every device that this may be placed on computes bf16."""
    if not placement.gpus_per_replica:
        return cpus.computes_bf16()
    return WITHOUT_BF16.isdisjoint(_accelerators(placement, resources))


def _accelerators(placement: PlacementConfig, resources: Resources) -> Iterator[str]:
    if placement.accelerator_type is not None:
        yield placement.accelerator_type
        return
    for node in resources.nodes:
        yield from (name.partition(":")[2] for name in node.resources if name.startswith("accelerator_type:"))


def _cpu_flags() -> Iterator[str]:
    """Of the first processor that Linux lists."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            yield from value.split()
            return
