"""What a rank imports, loaded once: the process that tests/distributed.py forks its ranks from imports this module.

One thread a rank: there are more ranks than a small machine has cores, and a process with a pool of threads cannot be forked.
"""

import gc
import os

os.environ["OMP_NUM_THREADS"] = "1"

from cgd_ray.training import loop  # noqa: F401
from cgd_ray.training.model.zero import use_accelerator

use_accelerator(use_gpu=False)
gc.freeze()  # a collection in a rank would copy the pages that it shares with the others
