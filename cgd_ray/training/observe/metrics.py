"""metrics.jsonl: one JSON line per optimizer step, each step once, whatever was resumed.

Rank 0 writes it (`MetricsLog`), the driver follows it (`MetricsTail`), reports read it (`read_metrics`).
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgd_ray.data.rundir import atomic_write
from cgd_ray.training.observe.trackers import Tracker


class MetricsLog:
    """The writer."""

    def __init__(self, path: Path, steps_done: int, trackers: Sequence[Tracker] = ()) -> None:
        """Drop lines of steps after the checkpoint that the training resumes from: they will be taken again. Trackers get each line too."""
        self._trackers = trackers
        kept = [line for line in read_metrics(path) if line["train/step"] <= steps_done]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._stream = path.open("a", encoding="utf-8")

    def write(self, metrics: Mapping[str, float]) -> None:
        """Append one step."""
        self._stream.write(json.dumps(metrics) + "\n")
        self._stream.flush()
        for tracker in self._trackers:
            tracker.log(metrics, int(metrics["train/step"]))

    def close(self) -> None:
        """Finish writing."""
        self._stream.close()
        for tracker in self._trackers:
            tracker.close()


class MetricsTail:
    """A reader that follows the file while it grows, and over its replacement when a training resumes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file_id: int | None = None
        self._offset = 0
        self._last_step = 0.0

    def new_steps(self) -> list[dict[str, float]]:
        """Metrics of the steps that were completed since the last call, each step once."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            file_id = os.fstat(stream.fileno()).st_ino
            if file_id != self._file_id:
                self._file_id, self._offset = file_id, 0
            stream.seek(self._offset)
            content = stream.read()
        complete = content[: content.rfind(b"\n") + 1]  # the last line may still be on its way
        self._offset += len(complete)
        lines = [line for line in map(json.loads, complete.splitlines()) if line["train/step"] > self._last_step]
        if lines:
            self._last_step = lines[-1]["train/step"]
        return lines


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All steps in the file; none when it does not exist."""
    return MetricsTail(path).new_steps()
