"""Ends a generation early and in order: rows that are finished within the grace are written, the others are left for the next run.

Ray Data cannot be asked to stop, so the stages are: a file in the run directory tells them. They start no further row, give those in their
engines a little time, and leave unfinished rows out of their output; their ids are then not committed, and the same command makes them.
An empty file is SIGTERM's, and the driver ends soon, come what may; one with a reason in it is an engine's, and there is more time.
How to use: `with draining_on_signals(path): ...` in the driver (stopping.py); in a stage `rows = await finished_before_stop(tasks, path)`.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from cgd_ray.data.rundir import atomic_write

GRACE_S = 15.0  # after SIGTERM; stopping.LONGEST_S leaves some time to write what is finished
POLL_INTERVAL_S = 0.5

Result = TypeVar("Result")


def end_run(flag: Path | None, error: Exception) -> None:
    """Set the flag with the reason, which the driver tells; without a flag the error itself ends the run.

    A flag that is there already stays as it is: SIGTERM's leaves no more time for being given a reason.
    """
    if flag is None:
        raise error
    if not flag.exists():
        with atomic_write(flag) as temporary:  # half-written it would be empty
            temporary.write_text(str(error), encoding="utf-8")


async def finished_before_stop(
    rows: Sequence["asyncio.Task[Result]"], flag: Path | None, grace_s: float = GRACE_S, ended_grace_s: float = GRACE_S
) -> list[Result]:
    """Results of the tasks, in their order: all of them, or, once the flag is there, those that end within the grace.

    That is `grace_s` seconds when the flag is empty and `ended_grace_s` when it holds a reason; one that is emptied meanwhile leaves the
    shorter. The first exception of a task is raised, and the others are cancelled.
    """
    waiting, deadline, clock = set(rows), float("inf"), asyncio.get_running_loop().time
    try:
        while waiting and clock() < deadline:
            done, waiting = await asyncio.wait(waiting, timeout=POLL_INTERVAL_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            deadline = min(deadline, clock() + _grace_s(flag, grace_s, ended_grace_s))
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return [task.result() for task in rows if not task.cancelled()]


def _grace_s(flag: Path | None, grace_s: float, ended_grace_s: float) -> float:
    """Seconds that the flag leaves; endless without one."""
    if flag is None:
        return float("inf")
    try:
        holds_reason = flag.stat().st_size > 0
    except FileNotFoundError:
        return float("inf")
    return ended_grace_s if holds_reason else grace_s
