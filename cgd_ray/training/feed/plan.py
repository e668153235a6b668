"""Which rows every rank trains on at every step: what a plan is, and the plan of a training whose data are finished.

The order is a seeded permutation per epoch and knows nothing of the world size: each global step takes its next G rows, rank r a
contiguous share of them. So each rank takes the same number of steps, and what is consumed after k steps is a prefix of a fixed order. The
last batch of an epoch, or any where `steps_per_epoch` spreads the rows, is filled up with empty rows, so each example is trained exactly
once an epoch. Where the ranks' micro-batches have more places than the batch has rows, empty ones are spread among them: the loss is
weighted by tokens, so any number of ranks will do.
How to use: `plan = PackedPlan.make(training, packed, world_size); plan.micro_batches(step, rank)`. stream.py has the other plan.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq

from cgd_ray.config import TrainingConfig
from cgd_ray.data.rundir import manifest_parts
from cgd_ray.training.examples.packing import SIZES, SIZES_TYPE
from cgd_ray.training.feed.rows import EMPTY
from cgd_ray.training.feed.schedule import learning_rate_at


@dataclass(frozen=True, kw_only=True)
class StepSizes:
    """What one optimizer step consists of, over all ranks."""

    tokens: int
    targets: int
    squares: int
    """Sum of the squared lengths of the examples."""


class Plan(Protocol):
    """What all ranks know about the training without communicating, whether its data are finished or still being made.

    S steps, G rows a step, M micro-batches a rank and step.
    """

    @property
    def world_size(self) -> int:
        """Ranks that take part."""
        ...

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole training; of one whose data are still being made, known at its end."""
        ...

    @property
    def num_micro_batches(self) -> int:
        """Forward passes of one rank in one step."""
        ...

    def has(self, step: int) -> bool:
        """Whether there is a step with this index; waits until that is known."""
        ...

    def await_step(self, step: int, stop_flag: Path) -> None:
        """Wait until it is known whether there is a step with this index, or until the flag is there."""
        ...

    def micro_batches(self, step: int, rank: int) -> np.ndarray:
        """[M, micro_batch_size] rows that this rank trains on at this step."""
        ...

    def sizes(self, step: int) -> StepSizes:
        """What the step consists of."""
        ...

    def position(self, step: int) -> dict[str, float]:
        """Where the training is after this step, for the log."""
        ...

    def learning_rate(self, step: int) -> float:
        """Rate of this step."""
        ...

    def consumed(self, num_steps: int) -> str | None:
        """Names what the first steps have consumed beyond what the data's own hash tells."""
        ...


@dataclass(frozen=True, kw_only=True)
class PackedPlan:
    """The Plan of a training whose data are finished: all of it is known from the start."""

    order_SG: np.ndarray
    """Row of the packed data, or EMPTY."""
    sizes_R: np.ndarray
    """SIZES_TYPE of every row; mapped into memory, so that a rank holds those of the steps that it asks for."""
    steps_per_epoch: int
    world_size: int
    training: TrainingConfig

    @classmethod
    def make(cls, training: TrainingConfig, packed: Path, world_size: int) -> "PackedPlan":
        """Derive the plan from the packed data's lengths and the settings alone."""
        sizes_R = sizes_of(packed)
        order_SG = np.concatenate([_epoch_order(len(sizes_R), training, epoch) for epoch in range(training.num_epochs)])
        return cls.in_order(training, sizes_R, order_SG, world_size)

    @classmethod
    def in_order(cls, training: TrainingConfig, sizes_R: np.ndarray, order_SG: np.ndarray, world_size: int) -> "PackedPlan":
        """The plan that takes rows of these sizes in this order."""
        steps_per_epoch = len(order_SG) // training.num_epochs
        return cls(order_SG=order_SG, sizes_R=sizes_R, steps_per_epoch=steps_per_epoch, world_size=world_size, training=training)

    def has(self, step: int) -> bool:
        """Whether there is a step with this index."""
        return step < self.num_steps

    def await_step(self, step: int, stop_flag: Path) -> None:
        """Wait until it is known whether there is a step with this index, or until the flag is there: all is known from the start."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return len(self.order_SG)

    @property
    def num_micro_batches(self) -> int:
        """Forward passes of one rank in one step."""
        return self.training.micro_batches_per_step(self.world_size)

    def micro_batches(self, step: int, rank: int) -> np.ndarray:
        """[M, micro_batch_size] rows that this rank trains on at this step."""
        rows: np.ndarray = self._by_rank(self.order_SG[step], EMPTY)[rank]
        return rows

    def sizes(self, step: int) -> StepSizes:
        """What the step consists of."""
        sizes_G = self.sizes_G(step)
        tokens, targets, squares = (int(sizes_G[name].sum()) for name in ("num_tokens", "num_targets", "squares"))
        return StepSizes(tokens=tokens, targets=targets, squares=squares)

    def sizes_G(self, step: int) -> np.ndarray:
        """SIZES_TYPE of the step's rows; 0 for EMPTY."""
        rows_G = self.order_SG[step]
        sizes_G: np.ndarray = self.sizes_R[np.maximum(rows_G, 0)]
        sizes_G[rows_G == EMPTY] = 0
        return sizes_G

    def position(self, step: int) -> dict[str, float]:
        """Where the training is after this step, for the log."""
        return {"train/num_steps": self.num_steps, "train/epoch": (step + 1) / self.steps_per_epoch}

    def learning_rate(self, step: int) -> float:
        """Rate of this step."""
        return learning_rate_at(step, self.num_steps, self.training)

    def consumed(self, num_steps: int) -> str | None:
        """Names what the first steps have consumed beyond what the data's own hash tells: nothing."""
        return None

    def _by_rank(self, values_G: np.ndarray, of_empty: int) -> np.ndarray:
        """[W, M, micro_batch_size] values of the rows in the micro-batches of W ranks, which differ by one row at most."""
        num_batches = self.world_size * self.num_micro_batches
        batch_G = np.arange(len(values_G)) * num_batches // len(values_G)  # where the places just suffice, so many rows in each
        place_G = np.arange(len(values_G)) - np.searchsorted(batch_G, batch_G)
        by_batch = np.full((num_batches, self.training.micro_batch_size), of_empty, dtype=np.int64)
        by_batch[batch_G, place_G] = values_G
        return by_batch.reshape(self.world_size, self.num_micro_batches, self.training.micro_batch_size)


def sizes_of(packed: Path) -> np.ndarray:
    """SIZES_TYPE of every packed row. Raises ValueError when the packing is unfinished."""
    parts = manifest_parts(packed)
    if (packed / SIZES).exists():
        sizes_R: np.ndarray = np.load(packed / SIZES, mmap_mode="r")
        return sizes_R
    return np.concatenate([sizes_in(part) for part in parts])  # packed by a version that knew no sizes


def sizes_in(part: Path) -> np.ndarray:
    """SIZES_TYPE of every row of one file, read from its rows."""
    table = pq.read_table(part, columns=["num_tokens", "num_targets", "lengths"]).combine_chunks()
    lengths = table["lengths"].combine_chunks()
    sizes_R = np.empty(table.num_rows, SIZES_TYPE)
    for name in ("num_tokens", "num_targets"):
        sizes_R[name] = table[name].to_numpy()
    sizes_R["squares"] = np.add.reduceat(lengths.flatten().to_numpy().astype(np.int64) ** 2, lengths.offsets.to_numpy()[:-1])
    return sizes_R


def _epoch_order(num_rows: int, training: TrainingConfig, epoch: int) -> np.ndarray:
    """[steps, global_batch_size] rows of one epoch, shuffled, steps that have fewer filled up with EMPTY."""
    order = np.random.default_rng([training.seed, epoch]).permutation(num_rows)
    num_steps, row_R = training.steps_in_epoch(num_rows), np.arange(num_rows)
    evenly = training.steps_per_epoch is not None
    step_R = row_R * num_steps // num_rows if evenly else row_R // training.global_batch_size
    filled = np.full((num_steps, training.global_batch_size), EMPTY, dtype=np.int64)
    filled[step_R, row_R - np.searchsorted(step_R, step_R)] = order
    return filled
