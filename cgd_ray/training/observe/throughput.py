"""How well the hardware is used: model FLOP/s against the device's peak, and peak memory.

Work is counted as 6 x parameters a token, and 6 x layers x hidden size x length for each token's causal attention within its example;
what activation checkpointing computes again does not count.
How to use: `model_flops(size, tokens, squares) / seconds / (world_size * peak_flops(device))`.
"""

import resource
from dataclasses import dataclass

import torch

PEAK_FLOPS: dict[str, float] = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "H800": 989e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "MI300X": 1307e12,
}
"""Dense bf16 FLOP/s by a part of the name that the driver gives; the makers' data sheets. The first match counts."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What the work of a step follows from."""

    num_parameters: int
    num_layers: int
    hidden_size: int


def model_flops(size: ModelSize, tokens: int, squares: int) -> float:
    """FLOPs of forward and backward over `tokens` tokens in examples whose squared lengths add up to `squares`."""
    return 6.0 * size.num_parameters * tokens + 6.0 * size.num_layers * size.hidden_size * squares


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a GPU; None for a CPU and for a GPU that the table lacks."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def peak_memory_gib(device: torch.device) -> float:
    """Most memory that this process has held so far: on the GPU, or on a CPU all it had resident."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB
