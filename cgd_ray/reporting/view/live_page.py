"""What a view serves: the page and its payload as they were at the last look, made anew only where a file of the run has changed.

Looks are taken when somebody asks, so a view that nobody watches costs nothing, and a look that took long is followed by a long rest, so
that a view beside a large run on a slow disk takes a third of a core at most.
How to use: `page = LivePage(RunDir(root))`, then for each request `page.now()`.
"""

import gzip
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import RunDir
from cgd_ray.process.advisory import Advisory
from cgd_ray.reporting.health.watch import HealthWatch
from cgd_ray.reporting.page.page import as_json, render
from cgd_ray.reporting.page.payload import build_payload, stamp

PAYLOAD = "payload.json"
"""Name beside the page under which it asks for newer payloads."""
LOOK_EVERY_S = 1.0
"""Least seconds between two looks. The page asks every two, so what is written is seen after three and the time of a look."""
REST = 2.0
"""Least seconds between two looks for each second that the last one took."""


@dataclass(frozen=True)
class Snapshot:
    """What is served until the next look finds something new."""

    stamp: str
    """Names the content."""
    payload: dict[str, Any]

    @cached_property
    def page(self) -> bytes:
        """The page in HTML, compressed."""
        return gzip.compress(render(self.payload, live_url=PAYLOAD).encode(), compresslevel=1, mtime=0)

    @cached_property
    def data(self) -> bytes:
        """The payload in JSON, compressed."""
        return gzip.compress(as_json(self.payload).encode(), compresslevel=1, mtime=0)


class LivePage:
    """One run's page."""

    def __init__(self, run: RunDir, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._watch, self._clock = run, HealthWatch(run), clock
        self._looking = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._files = ""
        """Stamp of the files that its payload was made from."""
        self._next_look = 0.0

    def now(self) -> Snapshot:
        """The newest snapshot; another thread's look is waited for only where there is none yet.

        Raises ValueError or OSError where the run cannot be read and never could.
        """
        is_mine = self._looking.acquire(blocking=self._snapshot is None)
        try:
            if self._snapshot is None or (is_mine and self._clock() >= self._next_look):
                self._snapshot = self._look(self._snapshot)
            return self._snapshot
        finally:
            if is_mine:
                self._looking.release()

    def _look(self, before: Snapshot | None) -> Snapshot:
        started = self._clock()
        try:
            advisories, files = self._watch.look(), stamp(self._run)
            payload = before.payload if before is not None and files == self._files else build_payload(self._run)
            self._files = files
        except (ValueError, OSError) as error:  # a damaged file, or one that is just being replaced: what was seen is still worth seeing
            if before is None:
                raise
            advisories, files, payload = [_unreadable(error)], self._files, before.payload
        ended = self._clock()
        self._next_look = ended + max(LOOK_EVERY_S, REST * (ended - started))
        told = [asdict(advisory) for advisory in advisories]
        name = short_hash(json.dumps([files, told]))
        return before if before is not None and before.stamp == name else Snapshot(name, {**payload, "stamp": name, "advisories": told})


def _unreadable(error: Exception) -> Advisory:
    return Advisory(level="warning", title="The run directory cannot be read now", detail=f"{error}. What is shown is older.")
