"""Where the time of a step goes, without making a GPU wait: events on its stream, read once the step is over.

How to use: `timer = StepTimer(device)`; `with timer.phase("forward"): ...`; `timer.seconds()` after the step.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class StepTimer:
    """Seconds by phase, of one step."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._spans: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside as `name`; may be entered many times."""
        start = self._now()
        yield
        self._spans[name].append((start, self._now()))

    def seconds(self) -> dict[str, float]:
        """Total of each phase; on a GPU, of the work its stream did for it."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return {name: sum(start.elapsed_time(end) for start, end in spans) / 1000 for name, spans in self._spans.items()}
        return {name: sum(end - start for start, end in spans) for name, spans in self._spans.items()}

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
