"""What is known of the records that selection has kept without their texts: their names, where they are, what their critiques concluded.

Budgets, mixes of verdicts, the split and the exchange of critiques look at all records, but at these columns alone: the driver holds about
40 bytes a record, and as much again while critiques are exchanged.
How to use: `catalogue = Catalogue.read(training, parts, side)`; texts.py reads the texts of `catalogue.places(indices)`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.config import TrainingConfig
from cgd_ray.training.examples.arms import check_columns
from cgd_ray.training.examples.choosing.critiques import shuffled_donors
from cgd_ray.training.examples.choosing.held_out import is_held_out
from cgd_ray.training.examples.choosing.mixture import arms_of

Side = Literal["training", "validation"]
PLACE_TYPE = np.dtype([("file", "i4"), ("row", "i4"), ("donor_file", "i4"), ("donor_row", "i4")])
"""A record's file among the parts and its row there, and the same of the record whose critique it is shown; NO_DONOR: its own."""
NO_DONOR = -1
NAMES_AT_ONCE = 2**16
MISSING = "missing"
"""The verdict of a record that has none."""
VERDICTS = (MISSING, "right", "wrong")


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """R records of one side of the split, in the order of their files."""

    parts: Sequence[Path]
    """Parquet files of selected records."""
    num_kept: int
    """Records that selection has kept, of both sides."""
    record_ids: pa.ChunkedArray
    verdict_R: np.ndarray
    """Index into VERDICTS."""
    file_R: np.ndarray
    row_R: np.ndarray
    donor_R: np.ndarray | None
    """Index of the record whose critique each is shown; null: each its own."""

    @classmethod
    def read(cls, training: TrainingConfig, parts: Sequence[Path], side: Side) -> "Catalogue":
        """Raises ValueError when the records lack a column of an arm, or when their critiques cannot be shuffled."""
        is_shuffled, fraction = training.critiques == "shuffled", 0.0 if training.validation is None else training.validation.fraction
        present = pq.read_schema(parts[0]).names if parts else []
        for arm in (*arms_of(training), *training.usable_by):
            check_columns(arm, present)
        columns = ["record_id", "verdict", "drop_reason", *(["problem_id"] if is_shuffled or fraction else [])]
        kept = pa.concat_tables(_kept(part, number, columns, is_shuffled) for number, part in enumerate(parts))
        records = kept.filter(_is_on_side(kept["problem_id"], fraction, side)) if fraction else kept
        donor_R = _donors(records, training.seed, side) if is_shuffled else None
        catalogue = cls(
            parts=parts,
            num_kept=kept.num_rows,
            record_ids=records["record_id"],
            verdict_R=records["verdict"].to_numpy(),
            file_R=records["file"].to_numpy(),
            row_R=records["row"].to_numpy(),
            donor_R=donor_R,
        )
        del kept, records
        pa.default_memory_pool().release_unused()  # Arrow keeps the pieces' memory otherwise, as much again as the whole
        return catalogue

    def __len__(self) -> int:
        return len(self.row_R)

    def names(self) -> Iterator[str]:
        """The record ids, of which some at a time are Python objects."""
        for start in range(0, len(self), NAMES_AT_ONCE):
            yield from self.record_ids.slice(start, NAMES_AT_ONCE).to_pylist()

    def by_name(self) -> np.ndarray:
        """[R] the records in the order of their ids; for a moment it takes five times as much memory as the result."""
        order_R: np.ndarray = pc.sort_indices(self.record_ids).to_numpy().astype(np.int32)
        pa.default_memory_pool().release_unused()
        return order_R

    def has_verdict(self, name: str) -> np.ndarray:
        """[R] whether a record has this verdict."""
        return np.asarray(self.verdict_R == VERDICTS.index(name))

    def without(self, is_left_out: Callable[[str], bool]) -> "Catalogue":
        """As if selection had not kept the records of which this is true; not where critiques are exchanged, which others then lack."""
        assert self.donor_R is None, "left out where records are looked at one by one"
        stays_R = np.fromiter((not is_left_out(name) for name in self.names()), bool, len(self))
        return replace(
            self,
            num_kept=self.num_kept - int(np.count_nonzero(~stays_R)),
            record_ids=self.record_ids.filter(pa.array(stays_R)),
            verdict_R=self.verdict_R[stays_R],
            file_R=self.file_R[stays_R],
            row_R=self.row_R[stays_R],
        )

    def places(self, indices: np.ndarray) -> np.ndarray:
        """PLACE_TYPE of some records."""
        places = np.full(len(indices), NO_DONOR, PLACE_TYPE)
        places["file"], places["row"] = self.file_R[indices], self.row_R[indices]
        if self.donor_R is not None:
            donors = self.donor_R[indices]
            places["donor_file"], places["donor_row"] = self.file_R[donors], self.row_R[donors]
        return places


def _kept(part: Path, number: int, columns: Sequence[str], is_shuffled: bool) -> pa.Table:
    """What is known of the records of one file that selection has kept."""
    table = pq.ParquetFile(part).read(columns=[*columns, *(["critique"] if is_shuffled else [])], use_threads=False)
    found = {name: table[name] for name in columns if name not in ("drop_reason", "verdict")}
    found["verdict"] = pc.index_in(pc.fill_null(table["verdict"], MISSING), value_set=pa.array(VERDICTS)).cast(pa.int8())
    if is_shuffled:
        found["critique_length"] = pc.fill_null(pc.utf8_length(table["critique"]), 0).cast(pa.int32())
    found["file"] = pa.array(np.full(table.num_rows, number, np.int32))
    found["row"] = pa.array(np.arange(table.num_rows, dtype=np.int32))
    return pa.table(found).filter(pc.is_null(table["drop_reason"]))


def _is_on_side(problem_ids: pa.ChunkedArray, fraction: float, side: Side) -> "pa.Array[Any]":
    """For each record whether its problem is on this side of the split."""
    names = pc.unique(problem_ids)
    wanted = names.filter(pa.array([is_held_out(name, fraction) == (side == "validation") for name in names.to_pylist()], pa.bool_()))
    return pc.is_in(problem_ids, value_set=wanted)


def _donors(records: pa.Table, seed: int, side: Side) -> np.ndarray:
    try:
        return shuffled_donors(records, seed)
    except ValueError as error:
        if side == "training":
            raise
        raise ValueError(f"among the held-out records: {error}, or raise training.validation.fraction") from None
