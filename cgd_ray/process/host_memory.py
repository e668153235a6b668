"""Keeps what a process has done with from staying with it: a training on CPUs, and the driver while it prepares the data.

Two things stay. glibc raises the size from which it gives memory straight back (M_MMAP_THRESHOLD) with every large block that is freed, up
to 32 MiB; activations, of another length in every micro-batch, then come from a heap full of holes. And oneDNN keeps 1,024 compiled
kernels, one for every shape, where packed rows bring new shapes all the time. The first costs page faults, the second nothing that could
be seen; docs/benchmarks.md has both prices. How to use: `let_go_of_used_memory()` before the first tensor.
"""

import ctypes
import os
import platform

M_MMAP_THRESHOLD = -3  # malloc.h
THRESHOLD_BYTES = 2**20
"""Of a tensor that goes back at once. Much less makes small models slow: with 2^17 a step and a save's copy took half as long again."""
KERNELS_KEPT = 64
"""More than the shapes of one micro-batch, whose layers share them."""


def let_go_of_used_memory() -> None:
    """Set both for this process, but for what the environment says; without glibc there is nothing to fix."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))
    if platform.libc_ver()[0] == "glibc" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
