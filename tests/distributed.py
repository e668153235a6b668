"""Runs a function in several processes that form a gloo process group, without Ray: what a training worker sees, in seconds."""

import multiprocessing
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

COLLECTIVE_TIMEOUT = timedelta(seconds=120)


def run_ranks(world_size: int, meeting_point: Path, function: Callable[..., None], *arguments: Any) -> None:
    """Call `function(*arguments)` on each rank; the first failure ends all ranks and is raised here.

    The function must be importable and its arguments picklable; meeting_point is a file that does not exist. The ranks are forked from one
    process of this test run in which nothing but imports has happened (preloaded.py): these take a rank longer than a small training.
    """
    import torch.multiprocessing

    multiprocessing.set_forkserver_preload(["tests.preloaded"])
    torch.multiprocessing.start_processes(
        _in_rank, (world_size, str(meeting_point), function, arguments), nprocs=world_size, start_method="forkserver"
    )


def _in_rank(rank: int, world_size: int, meeting_point: str, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch.distributed as dist

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=world_size, timeout=COLLECTIVE_TIMEOUT)
    function(*arguments)
    dist.destroy_process_group()
