"""Weights & Biases, with the key and the mode (WANDB_MODE=offline) that the workers' nodes have; the only file that knows wandb."""

from collections.abc import Mapping
from pathlib import Path

import wandb

PROJECT = "cgd_ray"


class WandbTracker:
    """One W&B run for the whole training; it takes steps in order only, so one that is repeated after a resume keeps its first values."""

    def __init__(self, directory: Path, run_id: str, steps_done: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(project=PROJECT, id=run_id, resume="allow", dir=str(directory))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """All metrics in one call."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()
