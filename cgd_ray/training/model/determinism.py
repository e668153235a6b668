"""Kernels that repeat every bit on the same hardware with the same number of workers (training.deterministic).

On CPUs all of them do anyway. On GPUs the sums of some are added up in whatever order their blocks end, above all in the backward pass of
flash attention, in embeddings and in some matrix products. How to use: `repeat_every_bit()` before the first CUDA kernel.
"""

import os

import torch

CUBLAS_WORKSPACE = ":4096:8"  # one of the two with which cuBLAS promises it


def repeat_every_bit() -> None:
    """Set it for this process. An operation that has no such kernel raises RuntimeError with its name when it is called."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")  # what transformers' own flash attention goes by
    # an error, not a warning: with warnings only torch's flash attention stays as it is
    torch.use_deterministic_algorithms(True, warn_only=False)
    torch.backends.cudnn.benchmark = False
    # ZeRO's buffers are padded with memory that nobody reads; filling it would cost time and put NaNs there
    torch.utils.deterministic.fill_uninitialized_memory = False
