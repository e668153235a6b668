"""Small trainings for tests: what they start from, where they write, and interrupting one as a kill would."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from cgd_ray.config import TrainingConfig
from cgd_ray.training.checkpoints.export import checkpoint_weights
from cgd_ray.training.checkpoints.store import directory_of
from cgd_ray.training.feed.plan import PackedPlan
from cgd_ray.training.feed.rows import EMPTY
from cgd_ray.training.job import TrainJob
from cgd_ray.training.observe.metrics import read_metrics
from tests.builders import packed_examples, random_examples, tiny_model

CONTEXT_LENGTH = 128
NUM_STEPS = 6  # of the data below, in two epochs


def make_training(**settings: Any) -> TrainingConfig:
    """Settings of a training in fp32 on two workers."""
    base = {
        "context_length": CONTEXT_LENGTH,
        "num_epochs": 2,
        "global_batch_size": 8,
        "learning_rate": 2e-3,
        "precision": "fp32",
        "num_workers": 2,
        "weight_decay": 0.1,
        "logits_chunk_tokens": 64,
    }
    return TrainingConfig(**{**base, **settings})


@dataclass(frozen=True)
class Trainings:
    """Trainings from one model on the same rows, each in a directory of its own."""

    root: Path
    model: str
    packed: Path

    @classmethod
    def make(cls, root: Path) -> "Trainings":
        """A tied model in fp32, and rows whose number leaves the last step of an epoch partly empty."""
        model = tiny_model(root / "initial", dtype=torch.float32)
        packed = packed_examples(root, make_training(), random_examples(80))
        plan = PackedPlan.make(make_training(), packed, world_size=2)
        assert plan.num_steps == NUM_STEPS
        assert (plan.order_SG == EMPTY).any()
        return cls(root=root, model=str(model), packed=packed)

    def job(self, name: str, **settings: Any) -> TrainJob:
        """The training called `name`; the settings are TrainingConfig's."""
        run = self.root / name
        return TrainJob(
            training=make_training(**settings).model_dump(mode="json"),
            model=self.model,
            packed=str(self.packed),
            checkpoints=str(run / "checkpoints"),
            metrics=str(run / "metrics.jsonl"),
            export_to=str(run / "model"),
        )

    def from_files(self, name: str, step: int, **settings: Any) -> dict[str, torch.Tensor]:
        """The weights of its checkpoint after this step, without any rank."""
        return checkpoint_weights(make_training(**settings), self.model, directory_of(self.root / name / "checkpoints", step))

    def metrics(self, name: str) -> list[dict[str, float]]:
        """The lines of its metrics.jsonl."""
        return read_metrics(self.root / name / "metrics.jsonl")

    def losses(self, name: str) -> list[float]:
        """Of its steps."""
        return [line["train/loss"] for line in self.metrics(name)]

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """What it has exported."""
        weights: dict[str, torch.Tensor] = load_file(self.root / name / "model" / "model.safetensors")
        return weights


class InterruptionError(Exception):
    """Stands for a kill."""


def train_interrupted(jobs: Sequence[TrainJob], after_checkpoint: int) -> None:
    """Run on each rank: train until the checkpoint of this step is complete and the next one is due."""
    from cgd_ray.training.loop import run_training

    def interrupt(metrics: dict[str, float], checkpoint: Path) -> None:
        if metrics["train/step"] == after_checkpoint:
            raise InterruptionError

    for job in jobs:
        with contextlib.suppress(InterruptionError):
            run_training(job, interrupt)


def train_all(jobs: Sequence[TrainJob]) -> None:
    """Run on each rank: train to the end, from the newest checkpoint where there is one."""
    from cgd_ray.training.loop import run_training

    for job in jobs:
        run_training(job)
