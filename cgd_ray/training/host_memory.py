"""Keeps what a training on CPUs has freed from staying with the process.

glibc raises the size from which it gives memory straight back (M_MMAP_THRESHOLD) with every large block that is freed, up to 32 MiB. The
activations of packed rows, of another length in every micro-batch, then come from a heap full of holes: of 2.3 GiB resident after a few
micro-batches, 0.4 GiB were holes (benchmarks/training.py). A fixed threshold costs page faults only, which cannot be seen in the rate.
How to use: `give_back_freed_memory()` before the first tensor.
"""

import ctypes
import platform

M_MMAP_THRESHOLD = -3  # malloc.h
THRESHOLD_BYTES = 2**20


def give_back_freed_memory() -> None:
    """Fix the threshold for this process; without glibc nothing is done."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
