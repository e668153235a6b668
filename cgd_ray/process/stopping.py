"""What SIGTERM does to a run: a stage that can end in order is told so by a file, any other one is ended by an exception.

A file, because what has to stop runs in other processes, on other nodes: generation's stages and the ranks of a training look for it.
SIGTERM's is empty. An engine that ends the run writes the same file with its reason; a SIGTERM that follows empties it, which leaves less
time, and the reason is put back when the stage has ended.
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


class _Drain:
    """A handler that sets a flag, and those of the stages that this one runs beside."""

    def __init__(self, flag: Path, before: object) -> None:
        self._flag, self._beside = flag, before if isinstance(before, _Drain) else None
        self._timer = threading.Timer(LONGEST_S, os._exit, (EXIT_STOPPED,))
        self._timer.daemon = True
        self._is_asked = False
        self._reason = ""
        """Why an engine had ended the run already."""

    def __call__(self, signal_number: int, frame: object) -> None:
        self._ask()
        if self._beside is not None:
            self._beside(signal_number, frame)

    def begin(self) -> None:
        """What was asked of the stages beside this one before it began is asked of it too."""
        if self._beside is not None and self._beside._flag.exists():
            self._ask()

    def end(self) -> None:
        """What was to be ended has ended in time."""
        self._timer.cancel()
        if self._reason:
            self._flag.write_text(self._reason, encoding="utf-8")

    def _ask(self) -> None:
        if self._is_asked:
            return
        self._is_asked = True
        self._timer.start()
        self._flag.parent.mkdir(parents=True, exist_ok=True)
        if self._flag.exists():
            self._reason = self._flag.read_text(encoding="utf-8")
        self._flag.write_text("")


@contextmanager
def draining_on_sigterm(flag: Path) -> Iterator[None]:
    """While the body runs, SIGTERM sets the flag; a body that then does not end in time is ended with its process.

    Within the body of another one, it sets the flags of both.
    """
    drain = _Drain(flag, signal.getsignal(signal.SIGTERM))
    try:
        with _on_sigterm(drain):
            drain.begin()
            yield
    finally:
        drain.end()


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
