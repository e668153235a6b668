"""How well the hardware is used: the device's peak FLOP/s and the peak memory; work.py counts the work.

How to use: `model_flops(size, tokens, targets, squares) / seconds / (world_size * peak_flops(device))`.
"""

import resource

import torch

from cgd_ray.process.accelerators import gpu_of


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a GPU; None for a CPU and for a GPU that the table lacks."""
    if device.type != "cuda":
        return None
    gpu = gpu_of(torch.cuda.get_device_name(device))
    return None if gpu is None else gpu.peak_flops


def peak_memory_gib(device: torch.device) -> float:
    """Most memory that this process has held so far: on the GPU, or on a CPU all it had resident."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB
