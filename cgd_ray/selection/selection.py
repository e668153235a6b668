"""Decides which records may be trained on, and counts every reason why one may not.

A critique or refinement that was cut by its limit, an empty one and a failed row never reach training. Where there is a reference answer,
y' and y^ are graded, which gives the repair matrix; a policy may then keep only repaired or verified records. Leaks are counted in any
case and dropped when asked for.
How to use: `counts = select_records(config.selection, run.records, run.selected)`.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import SelectionConfig
from cgd_ray.data.durable import durable_records
from cgd_ray.data.reasons import ReasonCounts
from cgd_ray.data.records import CUT, RECORDS_VERSION, SELECTED_SCHEMA, TURNS, unusable
from cgd_ray.data.rundir import atomic_write, write_manifest
from cgd_ray.grading.grader import Grader
from cgd_ray.problems.decontamination import Benchmarks
from cgd_ray.process.spreading import in_turn, is_worth_spreading, spread
from cgd_ray.selection.leakage import LEAKS, find_leaks
from cgd_ray.selection.verdicts import says_nothing_else

ROWS_PER_BATCH = 1024
"""Graded and written at once; bounds memory."""
ROWS_PER_FILE = 256
"""At least, of selected records, some seconds of one CPU; the parts of a generation may be much smaller."""
ROWS_PER_GROUP = 64
"""Of a file of selected records: whoever reads one row reads its group."""
FEW_ROWS = 2000
"""Up to which they are selected in this process, which takes some 20 ms for a record; others begin to work after seconds."""
COUNTED = [
    *("error", *(f"{turn}_finish_reason" for turn in TURNS), "verdict", "critique_is_empty"),
    *("leaks", "attempt_correct", "refinement_correct", "drop_reason"),
]
"""Columns of a selected record that Counts looks at."""


def select_records(
    config: SelectionConfig, records: Path, selected: Path, on_progress: Callable[[int], None], benchmarks: Benchmarks | None = None
) -> dict[str, Any]:
    """Read the records that are there, write them with grades, leaks and `drop_reason` (SELECTED_SCHEMA); return the manifest's counts.

    They are written in files of about ROWS_PER_FILE, on all CPUs of the cluster where there are many. Records whose question overlaps
    with `benchmarks` are dropped as contaminated. Raises ValueError for what durable_records() refuses.
    """
    started = time.monotonic()
    counts, made = Counts(), durable_records(records)
    groups = _grouped(made.parts)
    outputs = [selected / f"selected-{number:05}.parquet" for number in range(len(groups))]
    is_spread = is_worth_spreading(made.num_rows, FEW_ROWS)
    arguments = (config, benchmarks, groups, outputs, 1 if is_spread else None)
    for found in (spread if is_spread else in_turn)(Selecting, arguments, len(groups)):
        counts.update(found)
        on_progress(found.written)
    details = {"version": RECORDS_VERSION, **counts.as_dict(), "seconds": time.monotonic() - started}
    write_manifest(selected, made.fingerprint, outputs, details)
    return details


def _grouped(parts: Sequence[Path]) -> list[list[Path]]:
    """Neighbouring parts together until they have ROWS_PER_FILE rows; one group at least, perhaps an empty one."""
    groups, num_rows = [list[Path]()], 0
    for part in parts:
        if num_rows >= ROWS_PER_FILE:
            groups.append([])
            num_rows = 0
        groups[-1].append(part)
        num_rows += pq.read_metadata(part).num_rows
    return groups


class Selecting:
    """The selection of one group of parts after the other, a piece of work each (process/spreading.py)."""

    def __init__(
        self,
        config: SelectionConfig,
        benchmarks: Benchmarks | None,
        groups: Sequence[Sequence[Path]],
        outputs: Sequence[Path],
        num_graders: int | None,
    ) -> None:
        self._selector = Selector(config, benchmarks, num_graders)
        self._groups, self._outputs = groups, outputs

    def __call__(self, number: int) -> "Counts":
        """Write one group's file."""
        return self._selector.write(self._groups[number], self._outputs[number])

    def close(self) -> None:
        """End the graders."""
        self._selector.close()


class Selector:
    """Grades records and decides on each of them; every decision is about one record alone."""

    def __init__(self, config: SelectionConfig, benchmarks: Benchmarks | None = None, num_graders: int | None = None) -> None:
        """`num_graders` are processes; null for as many as this node has CPUs for."""
        self._config, self._benchmarks = config, benchmarks
        self._grader = Grader(config.grading_timeout_s, num_graders)

    def __enter__(self) -> "Selector":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the graders."""
        self._grader.close()

    def write(self, parts: Sequence[Path], output: Path) -> "Counts":
        """Write the records of some parts in one file, with grades, leaks and `drop_reason` (SELECTED_SCHEMA), and count them."""
        counts = Counts()
        with atomic_write(output) as temporary, pq.ParquetWriter(temporary, SELECTED_SCHEMA) as writer:
            for batch in chain.from_iterable(pq.ParquetFile(part).iter_batches(ROWS_PER_BATCH, use_threads=False) for part in parts):
                selected = self._selected(batch)
                counts.add(selected)
                writer.write_table(selected, row_group_size=ROWS_PER_GROUP)
        return counts

    def _selected(self, records: pa.RecordBatch) -> pa.Table:
        rows = _graded(records.to_pylist(), self._grader)
        for row in rows:
            row["critique_is_empty"] = None if row["critique"] is None else says_nothing_else(row["critique"])
            row["leaks"] = None if row["error"] is not None or row["refinement"] is None else find_leaks(row)
            row["drop_reason"] = drop_reason(row, self._config) or _contaminated(row, self._benchmarks)
        return pa.Table.from_pylist(rows, schema=SELECTED_SCHEMA)


def drop_reason(row: Mapping[str, Any], config: SelectionConfig) -> str | None:
    """Why a graded record is not trained on, or None to keep it. The first reason in the order of the stages counts."""
    if row["error"] is not None:
        return "failed"
    if (reason := unusable(row, TURNS, config.cut_attempts)) is not None:
        return reason
    if config.keep == "verified" and row["refinement_correct"] is not True:
        return "not_verified"
    if config.keep == "repaired" and not (row["attempt_correct"] is False and row["refinement_correct"] is True):
        return "not_repaired"
    return next((leak for leak in config.drop_leaks if leak in row["leaks"]), None)


def _contaminated(row: Mapping[str, Any], benchmarks: Benchmarks | None) -> str | None:
    return "contaminated" if benchmarks is not None and benchmarks.overlap(row["question"]) is not None else None


def _graded(rows: list[dict[str, Any]], grader: Grader) -> list[dict[str, Any]]:
    attempts = grader.grade([(row["attempt"], row["reference_answer"]) for row in rows])
    refinements = grader.grade([(row["refinement"], row["reference_answer"]) for row in rows])
    for row, attempt_correct, refinement_correct in zip(rows, attempts, refinements, strict=True):
        row["attempt_correct"], row["refinement_correct"] = attempt_correct, refinement_correct
    return rows


class Counts:
    """What the summary reports about records; written = kept + dropped + failed."""

    def __init__(self) -> None:
        self.written = self.failed = self.kept = self.kept_with_cut_attempt = 0
        self.empty_critiques = 0
        self.repetitive = Counter(dict.fromkeys(TURNS, 0))
        self.dropped: Counter[str] = Counter()
        self.errors = ReasonCounts()
        self.verdicts = Counter({"right": 0, "wrong": 0, "missing": 0})
        self.repair = Counter({f"{before}_to_{after}": 0 for before in ("wrong", "right") for after in ("right", "wrong")})
        self.leakage = Counter(dict.fromkeys(LEAKS, 0))

    def add(self, records: pa.Table) -> None:
        """Count selected records."""
        for row in records.select(COUNTED).to_pylist():
            self._add(row)

    def update(self, others: "Counts") -> None:
        """Count the records that others have counted."""
        self.written, self.failed, self.kept = self.written + others.written, self.failed + others.failed, self.kept + others.kept
        self.kept_with_cut_attempt += others.kept_with_cut_attempt
        self.empty_critiques += others.empty_critiques
        for mine, theirs in ((self.dropped, others.dropped), (self.verdicts, others.verdicts), (self.repair, others.repair)):
            mine.update(theirs)
        self.repetitive.update(others.repetitive)
        self.leakage.update(others.leakage)
        self.errors.update(others.errors)

    def _add(self, row: Mapping[str, Any]) -> None:
        self.written += 1
        if row["error"] is not None:
            self.failed += 1
            self.errors.add(row["error"])
            return
        self.repetitive.update(turn for turn in TURNS if row[f"{turn}_finish_reason"] == "repetition")
        if row["critique_finish_reason"] is not None:
            self.verdicts[row["verdict"] or "missing"] += 1
            self.empty_critiques += bool(row["critique_is_empty"])
        self.leakage.update(row["leaks"] or ())
        if row["attempt_correct"] is not None and row["refinement_correct"] is not None:
            before, after = ("right" if row[f"{stage}_correct"] else "wrong" for stage in ("attempt", "refinement"))
            self.repair[f"{before}_to_{after}"] += 1
        if row["drop_reason"] is None:
            self.kept += 1
            self.kept_with_cut_attempt += row["attempt_finish_reason"] in CUT
        else:
            self.dropped[row["drop_reason"]] += 1

    def as_dict(self) -> dict[str, Any]:
        """As the manifest of the selected records holds them."""
        return {
            "written": self.written,
            "failed": self.failed,
            "kept": self.kept,
            "kept_with_cut_attempt": self.kept_with_cut_attempt,
            "dropped": dict(self.dropped),
            "errors": self.errors.most_common(),
            "verdicts": dict(self.verdicts),
            "empty_critiques": self.empty_critiques,
            "repetitive": dict(self.repetitive),
            "repair": dict(self.repair),
            "leakage": dict(self.leakage),
        }
