"""What an earlier run on the same hardware has taken: its own ledger in summary.json and metrics.jsonl, scaled to another config.

It stands in for bounds where there are none, as on CPUs, and replaces them where there are.
How to use: `earlier = EarlierRun.read(Path("runs/pilot"))`; `earlier.generation_seconds(rows)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cgd_ray.config import Config, TrainingConfig
from cgd_ray.data.records import TURNS_OF_ROLE
from cgd_ray.data.rundir import RunDir, read_json
from cgd_ray.planning.ranges import Range
from cgd_ray.training.observe.metrics import read_metrics

TIME_ERROR = 0.2
"""Between two runs of one config on one machine, and between what is scaled and what comes out."""
ENOUGH = 3.0
"""How often the rows of an earlier run should fill its engines' places for its times to be those of many rows."""
RECOMPUTING = 4 / 3
"""What activation checkpointing makes of a step: three passes become four."""


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """One run's ledger."""

    config: Config
    rows: int
    """Records that it made."""
    seconds: Mapping[str, float]
    """Wall time by stage; `start` is what is before the first."""
    busy_seconds: Mapping[str, float]
    """Of engines, by role, all replicas together."""
    step_seconds: float
    """Median of a training step; 0 where nothing was trained."""
    steps: int
    tokens_per_step: float
    answers: int
    """To evaluation problems, of all models."""

    @classmethod
    def read(cls, directory: Path) -> "EarlierRun":
        """Raises ValueError, one line, for a directory without a finished generation."""
        run = RunDir(directory)
        summary, config = read_json(run.summary), run.recorded_config()
        if summary is None or config is None or summary["generation"] is None:
            raise ValueError(f"{directory} holds no run that has generated, so it tells no times; give one whose generation is finished")
        if config.training.streaming:
            raise ValueError(f"{directory} was a live run, in which the times of generation and training are one; give one that was not")
        steps = read_metrics(run.metrics)
        return cls(
            config=config,
            rows=summary["records"]["written"],
            seconds=summary["seconds"],
            busy_seconds={role: summary["generation"][role]["engine_seconds"] for role in TURNS_OF_ROLE},
            step_seconds=median([step["time/step_s"] for step in steps] or [0.0]),
            steps=len(steps),
            tokens_per_step=sum(step["train/tokens"] for step in steps) / max(1, len(steps)),
            answers=sum(_answers(report) for model in summary["evaluation"].values() for report in (model or {}).values()),
        )

    def generation_seconds(self, config: Config, rows: int) -> Range:
        """The start as it was; the rows as fast as they went, by the busier role.

        Fewer rows than fill the engines' places tell little of how fast many go: then the lower bound is that of full places.
        """
        busy = max(seconds / getattr(self.config, role).placement.max_replicas for role, seconds in self.busy_seconds.items())
        start = max(0.0, self.seconds["generate"] - busy)
        replicas = min(
            getattr(config, role).placement.max_replicas / getattr(self.config, role).placement.max_replicas for role in self.busy_seconds
        )
        working = busy * rows / max(1, self.rows) / replicas
        around = Range.around(start + working, TIME_ERROR)
        return Range(around.likely, min(around.low, start + working * min(1.0, self.filled)), around.high)

    @property
    def filled(self) -> float:
        """How often the rows fill the places of all engines of a role; below ENOUGH most of their time is the engines' start."""
        placed = [getattr(self.config, role).placement for role in self.busy_seconds]
        num_places: int = max(place.max_replicas * place.requests_in_flight for place in placed)
        return self.rows / num_places

    def training_seconds(self, training: TrainingConfig, steps: int, tokens: float) -> Range:
        """The start as it was; each token as fast as one was, but for what is computed again and for more or fewer workers."""
        was = self.config.training
        if not self.steps:
            raise ValueError("the earlier run has trained nothing, so it tells no time of a training; give one that has")
        start = max(0.0, self.seconds["train"] - self.steps * self.step_seconds)
        again = (RECOMPUTING if training.activation_checkpointing else 1.0) / (RECOMPUTING if was.activation_checkpointing else 1.0)
        workers = was.worker_range[1] / training.worker_range[1]
        step = self.step_seconds * (tokens / max(1, steps)) / self.tokens_per_step * again * workers
        return Range.around(start + steps * step, TIME_ERROR)

    def evaluation_seconds(self, answers: int) -> Range:
        """As long as an answer took, start included, since most of a short evaluation is that."""
        if not self.answers:
            return Range.exactly(0.0)
        return Range.around(self.seconds["evaluate"] * max(1.0, answers / self.answers), TIME_ERROR)


def _answers(report: Mapping[str, Any] | None) -> int:
    return 0 if report is None else report["num_problems"] * report["num_samples"]
