"""What a person sees: progress bars with rates and times, a closing table; the engines' and Ray's chatter goes to a log file.

On a terminal the bars are drawn in place; elsewhere (a Ray job's log, CI) a line is printed every few seconds.
How to use: `with Screen(run.logs / "driver.log") as screen, screen.progress("attempts", 100, "records") as bar: bar.advance(1)`.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PLAIN_INTERVAL_S = 10.0  # between lines where there is no terminal
NAME_WIDTH = 16
_PYDANTIC = re.compile(r"validation errors? for [^\n]+\n(?P<reason>.+?)\s\[type=\w+,", re.DOTALL)
"""A refusal of pydantic's: what was validated, the field or none, the reason, and then only types and an address."""


class Bar:
    """One stage's progress."""

    def __init__(self, console: Console, name: str, total: int, unit: str, drawn: Progress | None) -> None:
        self._console, self._name, self.total, self._unit, self._drawn = console, name, total, unit, drawn
        self._task = drawn.add_task(name, total=total, note="", speed="") if drawn else None
        self._started = self._printed = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first units were done, and how many: a rate without the start-up
        self.done = 0

    def advance(self, count: int, note: str = "") -> None:
        """Count further units as done."""
        self.update(self.done + count, note)

    def update(self, done: int, note: str = "", remaining_s: float | None = None) -> None:
        """Set how many units are done, with a few words on the state, and how long the others will take where the caller knows better."""
        self.done = done
        if done and self._first is None:
            self._first = (time.monotonic(), done)
        if self._drawn is not None and self._task is not None:
            self._drawn.update(self._task, completed=done, note=note, speed=", ".join(self._speed(remaining_s)))
        elif time.monotonic() - self._printed > PLAIN_INTERVAL_S:
            self._printed = time.monotonic()
            words = [f"{self._name:<{NAME_WIDTH}} {done:,}/{self.total:,} {self._unit}", *self._speed(remaining_s), note]
            self._console.print(", ".join(word for word in words if word), markup=False)

    def close(self) -> None:
        """Print what the stage did, and how long it took."""
        seconds = time.monotonic() - self._started
        if self._drawn is None:
            self._console.print(f"{self._name:<{NAME_WIDTH}} {self.done:,}/{self.total:,} {self._unit} in {seconds:.0f} s", markup=False)

    def _rate(self) -> float:
        """Units per second since the first ones were done; 0 before there is a second look."""
        if self._first is None or self.done == self._first[1]:
            return 0.0
        return (self.done - self._first[1]) / (time.monotonic() - self._first[0])

    def _speed(self, remaining_s: float | None) -> list[str]:
        rate = self._rate()
        if remaining_s is None and rate:
            remaining_s = (self.total - self.done) / rate
        words = [f"{rate:.1f} {self._unit}/s" if rate >= 1 else f"{60 * rate:.1f} {self._unit}/min"] if rate else []
        return words if remaining_s is None else [*words, f"ETA {timedelta(seconds=round(remaining_s))}"]


@contextmanager
def printing_lines() -> Iterator[Callable[[str], None]]:
    """Yield what prints a line to what is stdout now, also while a Screen has that go to its log."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace") as stream:

        def say(text: str) -> None:
            stream.write(f"{text}\n")
            stream.flush()

        yield say


class Screen:
    """The terminal, while everything that writes to stdout and stderr of this process goes to `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._drawn: Progress | None = None

    def __enter__(self) -> "Screen":
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        self.console = Console(file=self._stream, highlight=False, soft_wrap=not self._stream.isatty())
        target = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # the log's disk may be full, which the run says itself
                stream.flush()
        for descriptor, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
        self._stream.close()

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    @contextmanager
    def progress(self, name: str, total: int, unit: str) -> Iterator[Bar]:
        """A bar for one stage; one that begins inside another's is drawn below it."""
        if not self.console.is_terminal:
            bar = Bar(self.console, name, total, unit, None)
            yield bar
            bar.close()
            return
        if self._drawn is not None:
            yield Bar(self.console, name, total, unit, self._drawn)
            return
        columns = (
            TextColumn(f"{{task.description:<{NAME_WIDTH}}}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[note]}"),
        )
        try:
            with Progress(*columns, console=self.console) as self._drawn:
                yield Bar(self.console, name, total, unit, self._drawn)
        finally:
            self._drawn = None

    def table(self, title: str, rows: Sequence[Mapping[str, str]]) -> None:
        """A table with the first row's keys as its header."""
        table = Table(title=title, title_justify="left")
        for name in rows[0]:
            table.add_column(name)
        for row in rows:
            table.add_row(*row.values())
        self.console.print(table)


def last_line(error: BaseException) -> str:
    """What an error says, without the traceback that Ray puts before it and without what pydantic writes around its reason."""
    if found := list(_PYDANTIC.finditer(str(error))):
        return " ".join(found[-1]["reason"].split())
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
