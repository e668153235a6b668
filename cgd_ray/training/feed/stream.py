"""The plan of a training whose records are still being generated: one file of packed rows per optimizer step, in the order of their making.

What is on the disk is the order for ever, so a resumed training goes on from the step after its checkpoint. All ranks read the same files,
and the manifest that appears after the last of them ends the training: every rank takes the same number of steps.
How to use: `plan = StreamPlan(training, packed, world_size); rows = StreamRows(packed, training.global_batch_size)` in the place of
PackedPlan and PackedRows; step_writer.py writes the files.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cgd_ray.config import TrainingConfig
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import file_sha256, read_manifest
from cgd_ray.training.feed.plan import PackedPlan, StepSizes, sizes_in
from cgd_ray.training.feed.rows import EMPTY, PackedFile, PackedRows
from cgd_ray.training.feed.schedule import learning_rate_by_share
from cgd_ray.training.feed.step_writer import SHARE, step_file

POLL_INTERVAL_S = 0.1


class StreamPlan:
    """A Plan that grows; of the rows of step s the first has the number s x G, with G places for rows in a step."""

    def __init__(self, training: TrainingConfig, packed: Path, world_size: int) -> None:
        self.world_size = world_size
        self._training, self._packed = training, packed
        self._read: tuple[int, PackedPlan, float] | None = None  # the step that was asked for last
        self._chain = [""]  # hash of the first n files

    def has(self, step: int) -> bool:
        """Whether there is a step with this index; waits until that is known."""
        while (known := self._has(step)) is None:
            time.sleep(POLL_INTERVAL_S)
        return known

    def await_step(self, step: int, stop_flag: Path) -> None:
        """Wait until it is known whether there is a step with this index, or until the flag is there."""
        while self._has(step) is None and not stop_flag.exists():
            time.sleep(POLL_INTERVAL_S)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole training; known at its end."""
        manifest = read_manifest(self._packed)
        assert manifest is not None, "asked after the last step only"
        num_steps: int = manifest["steps"]
        return num_steps

    @property
    def num_micro_batches(self) -> int:
        """Forward passes of one rank in one step."""
        return self._training.micro_batches_per_step(self.world_size)

    def micro_batches(self, step: int, rank: int) -> np.ndarray:
        """[M, micro_batch_size] rows that this rank trains on at this step."""
        rows = self._step(step)[0].micro_batches(0, rank)
        return np.where(rows == EMPTY, EMPTY, rows + step * self._training.global_batch_size)

    def sizes(self, step: int) -> StepSizes:
        """What the step consists of."""
        return self._step(step)[0].sizes(0)

    def position(self, step: int) -> dict[str, float]:
        """Where the training is after this step, for the log."""
        return {"train/epoch": self._step(step)[1]}

    def learning_rate(self, step: int) -> float:
        """Rate of this step."""
        return learning_rate_by_share(self._step(step)[1], self._training)

    def consumed(self, num_steps: int) -> str | None:
        """Names the content of the first steps' files; None where one is missing."""
        while len(self._chain) <= num_steps:
            file = step_file(self._packed, len(self._chain) - 1)
            if not file.exists():
                return None
            self._chain.append(short_hash(self._chain[-1] + file_sha256(file)))
        return self._chain[num_steps]

    def _has(self, step: int) -> bool | None:
        """None while that is not known."""
        if step_file(self._packed, step).exists():
            return True
        manifest = read_manifest(self._packed)
        return False if manifest is not None and step >= manifest["steps"] else None

    def _step(self, step: int) -> tuple[PackedPlan, float]:
        """The step as a plan of a single one, and its share."""
        if self._read is None or self._read[0] != step:
            file, places = step_file(self._packed, step), self._training.global_batch_size
            metadata = pq.read_metadata(file)
            order_G = np.full(places, EMPTY, dtype=np.int64)
            order_G[: metadata.num_rows] = np.arange(metadata.num_rows)
            plan = PackedPlan.in_order(self._training, sizes_in(file), order_G[None], self.world_size)
            self._read = (step, plan, float(metadata.metadata[SHARE]))
        return self._read[1:]


class StreamRows(PackedRows):
    """The rows of a StreamPlan, by its numbers."""

    def __init__(self, packed: Path, rows_per_step: int) -> None:
        self._packed, self._rows_per_step = packed, rows_per_step
        self._opened: tuple[int, PackedFile] | None = None

    def _read(self, row: int, columns: list[str]) -> Any:
        step, place = divmod(int(row), self._rows_per_step)
        if self._opened is None or self._opened[0] != step:
            self._opened = (step, PackedFile(step_file(self._packed, step)))
        return self._opened[1].read(place, columns)
