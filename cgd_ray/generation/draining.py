"""Ends a generation early and in order: rows that are finished within the grace are written, the others are left for the next run.

Ray Data cannot be asked to stop, so the stages are: a file in the run directory tells them. They start no further row, give those in their
engines a little time, and leave unfinished rows out of their output; their ids are then not committed, and the same command makes them.
How to use: `with draining_on_sigterm(path): ...` in the driver; in a stage `rows = await finished_before_stop(tasks, path)`.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

GRACE_S = 15.0
POLL_INTERVAL_S = 0.5
LONGEST_S = 28.0  # from the signal to the end of the process, come what may: schedulers kill after 30
EXIT_STOPPED = 128 + signal.SIGTERM

Result = TypeVar("Result")


class StoppedError(KeyboardInterrupt):
    """The run was asked to stop; what is finished is kept."""


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """While the body runs, SIGTERM raises StoppedError in it."""

    def stop(signal_number: int, frame: object) -> None:
        raise StoppedError("stopped; the same command goes on from here")

    with _on_sigterm(stop):
        yield


@contextmanager
def draining_on_sigterm(flag: Path) -> Iterator[None]:
    """While the body runs, SIGTERM sets the flag; a body that then does not end in time is ended with its process."""

    timer = threading.Timer(LONGEST_S, os._exit, (EXIT_STOPPED,))
    timer.daemon = True

    def stop(signal_number: int, frame: object) -> None:
        if not flag.exists():
            flag.parent.mkdir(parents=True, exist_ok=True)
            flag.touch()
            timer.start()

    try:
        with _on_sigterm(stop):
            yield
    finally:
        timer.cancel()


@contextmanager
def _on_sigterm(handler: Callable[[int, object], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_run(flag: Path | None, error: Exception) -> None:
    """Set the flag with the reason, which the driver tells; without a flag the error itself ends the run."""
    if flag is None:
        raise error
    flag.write_text(str(error), encoding="utf-8")


async def finished_before_stop(rows: Sequence["asyncio.Task[Result]"], flag: Path | None, grace_s: float = GRACE_S) -> list[Result]:
    """Results of the tasks, in their order: all of them, or, once the flag is there, those that end within the grace.

    The first exception of a task is raised, and the others are cancelled.
    """
    waiting, deadline, clock = set(rows), float("inf"), asyncio.get_running_loop().time
    try:
        while waiting and clock() < deadline:
            done, waiting = await asyncio.wait(waiting, timeout=POLL_INTERVAL_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            if deadline == float("inf") and flag is not None and flag.exists():
                deadline = clock() + grace_s
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return [task.result() for task in rows if not task.cancelled()]
