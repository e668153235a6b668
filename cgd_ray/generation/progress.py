"""Counts of a running generation: stages add to one tiny actor, the driver reads it.

A count is for the eye: a row that is retried after a fault counts twice; the manifest's figures come from the written records.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

ProgressFn = Callable[[dict[str, int]], None]
REPORT_INTERVAL_S = 0.5
COUNTS = {"attempt": "attempts", "critique": "critiques", "refinement": "refinements"}
"""Stage -> the name under which its finished rows are counted."""


class Tally:
    """The actor's state."""

    def __init__(self, start: Mapping[str, int]) -> None:
        self._counts = Counter(start)

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the counts."""
        self._counts.update(counts)

    def read(self) -> dict[str, int]:
        """The counts so far."""
        return dict(self._counts)


@dataclass(frozen=True)
class ActorReport:
    """Sends a stage's counts to the actor, without waiting; crosses processes."""

    tally: Any
    """Handle of the Tally actor."""

    def __call__(self, counts: Mapping[str, int]) -> None:
        self.tally.add.remote(dict(counts))


class Meter:
    """Collects one stage actor's counts and reports them now and then."""

    def __init__(self, report: Callable[[Mapping[str, int]], None] | None) -> None:
        self._report = report
        self._counts: Counter[str] = Counter()
        self._reported = 0.0

    def add(self, **counts: int) -> None:
        """Count, and report when the last report is long enough ago."""
        self._counts.update(counts)
        if time.monotonic() - self._reported > REPORT_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Report what has been counted since the last report."""
        self._reported = time.monotonic()
        if self._report is not None and self._counts:
            self._report(self._counts)
            self._counts = Counter()


@contextmanager
def watched(start: Mapping[str, int], on_progress: ProgressFn | None) -> Iterator[ActorReport]:
    """A report for the stages; meanwhile `on_progress` gets the counts from a thread of this process, and once more at the end."""
    tally = ray.remote(Tally).options(num_cpus=0).remote(start)
    finished = threading.Event()

    def poll() -> None:
        while not finished.wait(REPORT_INTERVAL_S):
            _tell(tally, on_progress)

    thread = threading.Thread(target=poll, name="generation-progress", daemon=True)
    thread.start()
    try:
        yield ActorReport(tally)
        _tell(tally, on_progress)
    finally:
        finished.set()
        thread.join()
        ray.kill(tally)


def _tell(tally: Any, on_progress: ProgressFn | None) -> None:
    if on_progress is not None:
        on_progress(ray.get(tally.read.remote()))
