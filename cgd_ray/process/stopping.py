"""What SIGTERM and Ctrl-C do to a run: a stage that can end in order is told so by a file, any other one is ended by an exception.

A file, because what has to stop runs in other processes, on other nodes: generation's stages and the ranks of a training look for it.
A signal's is empty. An engine that ends the run writes the same file with its reason; a signal that follows empties it, which leaves less
time, and the reason is put back when the stage has ended. A second Ctrl-C waits for nothing.
How to use: `with stopped_by_signals(say): ...` around a run, `with draining_on_signals(flag): ...` around a stage that looks for the flag.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_S = 28.0  # from the signal to the end of the process, come what may: schedulers kill after 30
EXIT_STOPPED = 128 + signal.SIGTERM
EXIT_INTERRUPTED = 128 + signal.SIGINT
GO_ON = "the same command goes on from here"
ASKED = f"stopping: what is under way is brought to where it can go on, {LONGEST_S:.0f} s at most; Ctrl-C again ends it at once"


class StoppedError(KeyboardInterrupt):
    """The run was asked to stop; what is finished is kept."""

    exit_code = EXIT_STOPPED
    """Of the process."""


@contextmanager
def stopped_by_signals(say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """While the body runs, SIGTERM raises StoppedError in it and Ctrl-C KeyboardInterrupt; what drains is told instead, and `say` the user.

    A body that ends with StoppedError after Ctrl-C ends with its exit code.
    """
    run = _Run(say)
    try:
        with _on_signals(run):
            yield
    except StoppedError as error:
        if run.asked_by == signal.SIGINT:
            error.exit_code = EXIT_INTERRUPTED
        raise


class _Run:
    """The handler of a run, which hears from those of its stages what was asked of them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.asked_by: int | None = None
        """The first signal that a stage was to end on."""

    def __call__(self, signal_number: int, frame: object) -> None:
        raise KeyboardInterrupt(f"interrupted; {GO_ON}") if signal_number == signal.SIGINT else StoppedError(f"stopped; {GO_ON}")

    def note(self, signal_number: int) -> None:
        """Remember the first signal, and tell the user what Ctrl-C does."""
        if self.asked_by is None and signal_number == signal.SIGINT:
            self._say(ASKED)
        self.asked_by = self.asked_by or signal_number


class _Drain:
    """A handler that sets a flag, and those of the stages that this one runs beside."""

    def __init__(self, flag: Path, before: object) -> None:
        self._flag, self._beside = flag, before if isinstance(before, _Drain) else None
        self._run: _Run | None = before if isinstance(before, _Run) else None if self._beside is None else self._beside._run
        self._timer: threading.Timer | None = None
        """Ends the process; started when the stage is asked to end."""
        self._reason = ""
        """Why an engine had ended the run already."""

    def __call__(self, signal_number: int, frame: object) -> None:
        was_asked = self._timer is not None
        self.ask(128 + signal_number)
        if self._run is not None:
            self._run.note(signal_number)
        if was_asked and signal_number == signal.SIGINT:
            raise KeyboardInterrupt(f"interrupted; {GO_ON}")

    def begin(self) -> None:
        """What was asked of the stages beside this one before it began is asked of it too."""
        if self._beside is not None and self._beside._flag.exists():
            self.ask(EXIT_STOPPED)

    def end(self) -> None:
        """What was to be ended has ended in time."""
        if self._timer is not None:
            self._timer.cancel()
        if self._reason:
            self._flag.write_text(self._reason, encoding="utf-8")

    def ask(self, exit_code: int) -> None:
        """Set the flag, and those of the stages beside, once; a stage that does not end in time ends its process with this code."""
        if self._beside is not None:
            self._beside.ask(exit_code)
        if self._timer is not None:
            return
        self._timer = threading.Timer(LONGEST_S, os._exit, (exit_code,))
        self._timer.daemon = True
        self._timer.start()
        self._flag.parent.mkdir(parents=True, exist_ok=True)
        if self._flag.exists():
            self._reason = self._flag.read_text(encoding="utf-8")
        self._flag.write_text("")


@contextmanager
def draining_on_signals(flag: Path) -> Iterator[None]:
    """While the body runs, SIGTERM or Ctrl-C sets the flag; a body that then does not end in time is ended with its process.

    Within the body of another one, it sets the flags of both. A second Ctrl-C raises KeyboardInterrupt.
    """
    drain = _Drain(flag, signal.getsignal(signal.SIGTERM))
    try:
        with _on_signals(drain):
            drain.begin()
            yield
    finally:
        drain.end()


@contextmanager
def _on_signals(handler: Callable[[int, object], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
