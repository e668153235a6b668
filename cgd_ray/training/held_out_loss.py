"""The loss on held-out examples, in the same arm and over the same kind of rows as the training's, on all ranks together.

How to use: `held_out = HeldOutLoss(training, packed, world_size)`; `held_out.mean(engine, rank)` at the same step on every rank.
"""

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from cgd_ray.config import TrainingConfig
from cgd_ray.training.feed.plan import PackedPlan
from cgd_ray.training.feed.rows import PackedRows
from cgd_ray.training.model.zero import ZeroEngine


class HeldOutLoss:
    """The held-out rows and how the ranks share them."""

    def __init__(self, training: TrainingConfig, packed: Path, world_size: int) -> None:
        self._plan = PackedPlan.make(training.model_copy(update={"num_epochs": 1, "steps_per_epoch": None}), packed, world_size)
        self._rows = PackedRows(packed)

    def mean(self, engine: ZeroEngine, rank: int) -> float:
        """Mean over all held-out target tokens; a collective."""
        total = torch.zeros((), dtype=torch.float64, device=engine.device)
        with engine.evaluating():
            for step in range(self._plan.num_steps):
                for rows in self._plan.micro_batches(step, rank):
                    total += engine.forward(self._rows.batch(rows).to(engine.device))
        dist.all_reduce(total)
        return float(total.item()) / int(self._plan.sizes_R["num_targets"].sum(dtype=np.int64))
