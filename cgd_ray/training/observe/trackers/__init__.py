"""Where a training's metrics go besides metrics.jsonl: one file for each tracker, all behind one interface.

Adding a tracker is adding a file with a class that satisfies Tracker, and an entry in TRACKERS and in the setting training.trackers.
How to use, on rank 0: `trackers = start_trackers(training.trackers, training_directory, fingerprint, steps_done)`.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

TRACKERS = {
    "tensorboard": "cgd_ray.training.observe.trackers.tensorboard:TensorBoardTracker",
    "mlflow": "cgd_ray.training.observe.trackers.mlflow:MlflowTracker",
    "wandb": "cgd_ray.training.observe.trackers.wandb:WandbTracker",
}
"""What training.trackers may name, and the class behind it, which is imported only when it is named."""


class Tracker(Protocol):
    """Receives each step's metrics once, in order, on rank 0."""

    def __init__(self, directory: Path, run_id: str, steps_done: int) -> None:
        """Go on with the run of this id, whose files are in `directory`, after steps_done steps; or begin it."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Take the metrics of a step."""

    def close(self) -> None:
        """Make everything that was logged visible; the training is over."""


def start_trackers(names: Sequence[str], directory: Path, run_id: str, steps_done: int) -> list[Tracker]:
    """The trackers of a training; each keeps its files in a folder of `directory`."""
    trackers = []
    for name in names:
        module, made_by = TRACKERS[name].split(":")
        tracker: Tracker = getattr(importlib.import_module(module), made_by)(directory / name, run_id, steps_done)
        trackers.append(tracker)
    return trackers
