"""How well the hardware is used: model FLOP/s against the device's peak, and peak memory.

Work is what forward and backward need, per weight and token 6 FLOPs or 4 where the weight is frozen, and attention within examples. The
output layer counts for target tokens alone, experts for the tokens that pass them, and what activation checkpointing or the loss computes
again not at all.
How to use: `model_flops(size, tokens, targets, squares) / seconds / (world_size * peak_flops(device))`; model/size.py measures a model.
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


FORWARD_AND_BACKWARD = 6.0
"""FLOPs of a trained weight for each token that passes it: 2 forward, 2 for the gradient of its input, 2 for its own."""
FROZEN = 4.0
"""The same without its own gradient: what LoRA leaves as it is."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What the work of a step follows from."""

    num_parameters: int
    """All of them, also those that a token does not pass."""
    hidden_size: int
    flops_per_token: float
    """Of the weights that every token passes, forward and backward."""
    flops_per_target: float
    """Of the output layer, which only target tokens pass."""
    attention_width: int
    """Query heads x head size."""
    num_attention_layers: int
    num_sliding_layers: int = 0
    """Those of them that see sliding_window tokens only."""
    sliding_window: int | None = None


def model_flops(size: ModelSize, tokens: int, targets: int, squares: int) -> float:
    """FLOPs of forward and backward over `tokens` tokens, `targets` of them targets, in examples whose squared lengths add up to `squares`.

    A causal layer looks at half of an example's square; a sliding one at no more, and at no more than its window for each token.
    """
    num_sliding = 0 if size.sliding_window is None else size.num_sliding_layers
    seen = (size.num_attention_layers - num_sliding) * squares + num_sliding * min(squares, 2 * tokens * (size.sliding_window or 0))
    return size.flops_per_token * tokens + size.flops_per_target * targets + FORWARD_AND_BACKWARD * size.attention_width * seen


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
