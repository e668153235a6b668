"""What SIGTERM does to a run: a stage that can end in order is told so by a file, any other one is ended by an exception.

A file, because what has to stop runs in other processes, on other nodes: generation's stages and the ranks of a training look for it.
How to use: `with stopped_by_sigterm(): ...` around a run, `with draining_on_sigterm(flag): ...` around a stage that looks for the flag.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_S = 28.0  # from the signal to the end of the process, come what may: schedulers kill after 30
EXIT_STOPPED = 128 + signal.SIGTERM


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
