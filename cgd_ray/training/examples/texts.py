"""The texts of records, read by their places in small portions, each with the arm and the critique that the training gives it.

How to use: `texts = Texts(training, prompts, parts)`; `for row in texts.rows(catalogue.places(indices)): ...`
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import TrainingConfig
from cgd_ray.data.fetching import fetch
from cgd_ray.data.prompts import Prompts
from cgd_ray.training.examples.arms import REQUIRED_COLUMNS
from cgd_ray.training.examples.choosing.catalogue import MISSING, NO_DONOR
from cgd_ray.training.examples.choosing.critiques import verdict_only
from cgd_ray.training.examples.choosing.mixture import arms_of, assign_arms

ROWS_AT_ONCE = 1024
"""Read together; 30 MB where a record has 30 KB."""
ROWS_PER_BATCH = 256
"""Turned into Python objects together."""
OWN_CRITIQUE = "cgd"
"""The arm that is shown another critique where training.critiques says so; others keep their own."""
SHOWN = "shown_critique"
"""The column of the critique that the student sees; `critique` is always the record's own."""


class Texts:
    """The records of some Parquet files of selected records."""

    def __init__(self, training: TrainingConfig, prompts: Prompts, parts: Sequence[Path]) -> None:
        self._training, self._generic_critique, self._parts = training, prompts.generic_critique, parts
        needed = dict.fromkeys(column for arm in (*arms_of(training), *training.usable_by) for column in REQUIRED_COLUMNS[arm])
        present = pq.read_schema(parts[0]).names if parts else []
        finish_reasons = [name for name in (f"{column}_finish_reason" for column in needed) if name in present]
        self._columns = ["record_id", "verdict", *needed, *finish_reasons]

    def rows(self, places: np.ndarray) -> Iterator[dict[str, Any]]:
        """The columns that the arms read, `arm` and SHOWN, of the records at these places (PLACE_TYPE), in their order."""
        for start in range(0, len(places), ROWS_AT_ONCE):
            here = places[start : start + ROWS_AT_ONCE]
            table = fetch(self._parts, here["file"], here["row"], self._columns)
            critiques = self._other_critiques(here, table)
            for first in range(0, len(here), ROWS_PER_BATCH):
                rows = table.slice(first, ROWS_PER_BATCH).to_pylist()
                arms = assign_arms(self._training, [row["record_id"] for row in rows])
                for number, (row, arm) in enumerate(zip(rows, arms, strict=True), first):
                    shown = row.get("critique")
                    if arm == OWN_CRITIQUE and critiques is not None and shown:
                        shown = critiques[number]
                    yield row | {"arm": arm, "verdict": row["verdict"] or MISSING, SHOWN: shown}

    def _other_critiques(self, places: np.ndarray, table: pa.Table) -> Sequence[str | None] | None:
        """What each record of the table is shown in place of its critique, where it has one; None: nothing else."""
        if self._training.critiques == "generic":
            return [self._generic_critique] * len(places)
        if self._training.critiques == "verdict_only":
            return [critique and verdict_only(critique) for critique in table["critique"].to_pylist()]
        if self._training.critiques == "shuffled":
            assert (places["donor_file"] != NO_DONOR).all(), "a catalogue of shuffled critiques names a donor for each"
            critiques: list[str | None] = fetch(self._parts, places["donor_file"], places["donor_row"], ["critique"])[
                "critique"
            ].to_pylist()
            return critiques
        return None
