"""The machines that a plan is for: stated in a YAML file, those of a running cluster, or this one.

A file says what kinds of nodes there are, as
`nodes: [{count: 2, gpu: H100, gpus: 8, cpus: 192, memory_gib: 2000}]`, with `most` where an autoscaler may add some.
How to use: `machines = read_machines("cluster.yaml")`; `machines_of(resources)`; `this_machine()`.
"""

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cgd_ray.cluster.connection import Node, Resources
from cgd_ray.config.base import Count, Settings
from cgd_ray.config.loading import read_settings
from cgd_ray.process.accelerators import GIB, GPUS, Gpu, gpu_of

PRICES_OF = date(2025, 12, 1)
PRICES: dict[str, float] = {
    "B200": 5.5,
    "H200": 3.8,
    "GH200": 3.2,
    "H100": 3.0,
    "H800": 3.0,
    "A100": 1.8,
    "A800": 1.8,
    "A100 40GB": 1.3,
    "MI300X": 2.5,
    "L40S": 1.1,
    "A10G": 1.0,
    "A10": 0.8,
    "L4": 0.7,
    "RTX 4090": 0.5,
}
"""USD for an hour of one GPU on demand, about the middle of what clouds ask; price_per_gpu_hour of a machine has the last word."""
STALE_AFTER_DAYS = 365
UNTOLD_MEMORY_GIB = 2**20
"""Of a node of a running cluster that does not tell its memory, which is then no reason for anything."""
Amount = Annotated[float, Field(gt=0.0)]


class Machine(Settings):
    """One kind of node."""

    count: Annotated[int, Field(ge=0)] = 1
    """Nodes of this kind that are there."""
    most: Count | None = None
    """Nodes of this kind that an autoscaler may bring them to; null adds none."""
    cpus: Count
    """CPUs of one."""
    memory_gib: Amount
    """Host memory of one."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs of one."""
    gpu: str | None = None
    """Their kind, e.g. H100."""
    gpu_memory_gib: Amount | None = None
    """Of each GPU; null takes what its maker says."""
    gpu_teraflops: Amount | None = None
    """Dense bf16 TFLOP/s of each; null takes what its maker says."""
    gpu_bandwidth_gb_s: Amount | None = None
    """GB/s at which each reads its memory; null takes what its maker says."""
    price_per_gpu_hour: Annotated[float, Field(ge=0.0)] | None = None
    """Money for an hour of one GPU; null takes the package's dated table."""

    @property
    def accelerator(self) -> Gpu | None:
        """The GPU with what was stated of it, if any. Raises ValueError for an unknown kind of which too little is stated."""
        if not self.gpus:
            return None
        known = gpu_of(self.gpu or "")
        stated = {"gpu_memory_gib": self.gpu_memory_gib, "gpu_teraflops": self.gpu_teraflops, "gpu_bandwidth_gb_s": self.gpu_bandwidth_gb_s}
        lacking = [name for name, value in stated.items() if value is None]
        if known is None and lacking:
            names = [gpu.name for gpu in GPUS]
            near = difflib.get_close_matches((self.gpu or "").upper(), names, 3, 0.3) or names
            raise ValueError(
                f"nodes.gpu is {self.gpu}, which is no GPU of the table (nearest: {', '.join(near)}); name one of those, or state "
                f"{', '.join(lacking)} beside it"
            )
        base = known or Gpu(name=self.gpu or "GPU", peak_flops=0.0, memory_bytes=0.0, bandwidth=0.0)
        return replace(
            base,
            peak_flops=base.peak_flops if self.gpu_teraflops is None else self.gpu_teraflops * 1e12,
            memory_bytes=base.memory_bytes if self.gpu_memory_gib is None else self.gpu_memory_gib * GIB,
            bandwidth=base.bandwidth if self.gpu_bandwidth_gb_s is None else self.gpu_bandwidth_gb_s * 1e9,
        )

    @property
    def gpu_price(self) -> float | None:
        """Of an hour of one GPU; None where nobody knows."""
        if self.price_per_gpu_hour is not None or self.accelerator is None:
            return self.price_per_gpu_hour
        return PRICES.get(self.accelerator.name)

    def node(self) -> Node:
        """As Ray would tell of one."""
        resources = {"CPU": float(self.cpus), "memory": self.memory_gib * GIB}
        if self.gpus:
            resources |= {"GPU": float(self.gpus), f"accelerator_type:{self.gpu}": 1.0}
        return Node(resources=resources)


class Machines(Settings):
    """All nodes of a cluster."""

    nodes: Annotated[tuple[Machine, ...], Field(min_length=1)]
    """Each kind once."""
    limits: Mapping[str, float] = Field(default_factory=dict)
    """What an autoscaler may bring all nodes together to, of kinds that are not known, e.g. {GPU: 16}."""

    @property
    def resources(self) -> Resources:
        """As Ray would tell of the cluster at its fullest: nodes of known kinds that an autoscaler may add count as there."""
        nodes = [machine.node() for machine in self.nodes for _ in range(machine.most or machine.count)]
        return Resources(nodes=nodes, limits=self.limits)

    @property
    def num_nodes(self) -> int:
        """Of all kinds."""
        return max(1, sum(machine.most or machine.count for machine in self.nodes))

    @property
    def with_gpus(self) -> Sequence[Machine]:
        """The kinds that have GPUs, the most GPU memory first."""
        having = [machine for machine in self.nodes if machine.accelerator is not None]
        return sorted(having, key=lambda machine: -(machine.accelerator or GPUS[0]).memory_bytes)

    def for_type(self, accelerator_type: str | None) -> Machine | None:
        """The kind that holds what asks for this Ray accelerator type, or for any GPU; None where there is none."""
        return next((machine for machine in self.with_gpus if accelerator_type in (None, machine.gpu)), None)

    def __str__(self) -> str:
        return ", ".join(_described(machine) for machine in self.nodes)


def _described(machine: Machine) -> str:
    gpus = f"{machine.gpus} x {machine.gpu}, " if machine.gpus else ""
    more = f" (up to {machine.most})" if machine.most else ""
    return f"{machine.count}{more} x ({gpus}{machine.cpus} CPUs, {machine.memory_gib:g} GiB)"


def read_machines(path: str) -> Machines:
    """Of a YAML file. Raises ValueError, one line, for what is wrong with it."""
    machines = read_settings(Machines, path)
    for machine in machines.nodes:
        machine.accelerator  # noqa: B018  (refuses unknown kinds now)
    return machines


def machines_of(resources: Resources) -> Machines:
    """Of a running cluster. No plan can be made for a GPU that the table lacks: it must be stated in a file."""
    kinds = Counter(
        (
            int(node.resources.get("CPU", 0)),
            int(node.resources.get("GPU", 0)),
            next((name.partition(":")[2] for name in node.resources if name.startswith("accelerator_type:")), None),
            round(node.resources.get("memory", 0) / GIB),
        )
        for node in resources.nodes
    )
    return Machines(
        nodes=tuple(
            Machine(count=count, cpus=max(1, cpus), gpus=gpus, gpu=gpu, memory_gib=memory or UNTOLD_MEMORY_GIB)
            for (cpus, gpus, gpu, memory), count in kinds.items()
        ),
        limits=resources.limits,
    )


def this_machine(num_cpus: int | None = None) -> Machines:
    """The one that this runs on; its NVIDIA GPUs by what their driver says of them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    found = [line for file in Path("/proc/driver/nvidia/gpus").glob("*/information") for line in file.read_text().splitlines()]
    models = [line.partition(":")[2].strip() for line in found if line.startswith("Model")]
    kind = next((known.name if (known := gpu_of(model)) is not None else model for model in models), None)
    cpus = num_cpus or os.cpu_count() or 1
    return Machines(nodes=(Machine(cpus=cpus, memory_gib=round(memory, 1), gpus=len(models), gpu=kind),))
