"""Keeps what a training on CPUs has done with from staying with the process.

Two things stay. glibc raises the size from which it gives memory straight back (M_MMAP_THRESHOLD) with every large block that is freed, up
to 32 MiB; activations, of another length in every micro-batch, then come from a heap full of holes. And oneDNN keeps 1,024 compiled
kernels, one for every shape, where packed rows bring new shapes all the time. benchmarks/training.py shows the peak with both put right;
the page faults cost about a twentieth of the rate.
How to use: `let_go_of_used_memory()` before the first tensor.
"""

import ctypes
import os
import platform

M_MMAP_THRESHOLD = -3  # malloc.h
THRESHOLD_BYTES = 2**17
"""What glibc begins with; fixed, it stays so."""
KERNELS_KEPT = 64
"""More than the shapes of one micro-batch, whose layers share them."""


def let_go_of_used_memory() -> None:
    """Set both for this process; what the environment says about oneDNN stays, and without glibc there is nothing to fix."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
