"""The tensors of one micro-batch, straight from the packed Parquet.

How to use: `rows = PackedRows(packed)`; `rows.batch(plan.micro_batches(step, rank)[0]).to(device)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from cgd_ray.data.rundir import manifest_parts, read_manifest

OPEN_FILES = 16
"""Files whose row groups' places a rank remembers; of others they are read again, which takes milliseconds."""
EMPTY = -1  # in a plan's arrays only: a place in the last batch of an epoch that no row fills


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of one rank: whole examples in one flat sequence, without padding. T tokens, N targets."""

    input_ids_1T: torch.Tensor
    position_ids_1T: torch.Tensor
    """Restart at 0 with every example."""
    example_lengths: list[int]
    positions_N: torch.Tensor
    """Index into T of the token before each target: its logits predict the target."""
    target_ids_N: torch.Tensor

    def to(self, device: torch.device) -> dict[str, Any]:
        """The arguments of TargetLoss.forward, on a device."""
        return {
            "input_ids_1T": self.input_ids_1T.to(device, non_blocking=True),
            "position_ids_1T": self.position_ids_1T.to(device, non_blocking=True),
            "example_lengths": self.example_lengths,
            "positions_N": self.positions_N.to(device, non_blocking=True),
            "target_ids_N": self.target_ids_N.to(device, non_blocking=True),
        }


class PackedRows:
    """Random access to the packed rows; one small row group is read per row, so memory does not grow with the data."""

    def __init__(self, packed: Path) -> None:
        parts = [part for part in manifest_parts(packed) if part.suffix == ".parquet"]
        manifest = read_manifest(packed)
        assert manifest is not None, "manifest_parts has read it as well"
        self._rows_per_file = manifest.get("rows_per_file", manifest["rows"])  # former versions wrote a single file
        self._file = lru_cache(OPEN_FILES)(lambda number: PackedFile(parts[number]))

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """The micro-batch of these rows; EMPTY ones add nothing, and a batch of nothing else is a single token without target."""
        tables = [self._read(row, ["input_ids", "lengths", "prompt_lengths"]) for row in rows if row != EMPTY]
        if not tables:
            return make_batch(*(np.ones(1, dtype=np.int64) for _ in range(3)))
        ids, lengths, prompts = (np.concatenate([table[name][0].values.to_numpy() for table in tables]) for name in tables[0].column_names)
        return make_batch(ids, lengths, prompts)

    def record_ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The records whose examples these rows hold."""
        return [name for row in rows if row != EMPTY for name in self._read(row, ["record_ids"])["record_ids"][0].as_py()]

    def _read(self, row: int, columns: list[str]) -> Any:
        number, place = divmod(int(row), self._rows_per_file)
        return self._file(number).read(place, columns)


class PackedFile:
    """One file of packed rows."""

    def __init__(self, part: Path) -> None:
        self._file = pq.ParquetFile(part, memory_map=True)
        groups = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(groups)])

    def read(self, row: int, columns: list[str]) -> Any:
        """A table of this row alone."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._file.read_row_group(group, columns=columns, use_threads=False).slice(row - self._starts[group], 1)


def make_batch(input_ids_T: np.ndarray, lengths_E: np.ndarray, prompt_lengths_E: np.ndarray) -> Batch:
    """Lay E examples out as one flat sequence; the target tokens of an example are those from its prompt length on."""
    starts_E = np.cumsum(lengths_E) - lengths_E
    position_ids_T = np.arange(len(input_ids_T)) - np.repeat(starts_E, lengths_E)
    targets_N = np.flatnonzero(position_ids_T >= np.repeat(prompt_lengths_E, lengths_E))
    input_ids = torch.from_numpy(input_ids_T.astype(np.int64))
    targets = torch.from_numpy(targets_N)
    return Batch(
        input_ids_1T=input_ids[None],
        position_ids_1T=torch.from_numpy(position_ids_T)[None],
        example_lengths=lengths_E.tolist(),
        positions_N=targets - 1,
        target_ids_N=input_ids[targets],
    )
