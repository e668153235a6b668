"""Decides which records may be trained on, and counts every reason why one may not.

A generation that was cut by its limit, an empty one and a failed row never reach training. Where there is a reference answer, y' and
y^ are graded, which gives the repair matrix; a policy may then keep only repaired or verified records. Leaks are counted in any case and
dropped when asked for.
How to use: `counts = select_records(config.selection, run.records, run.selected)`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import SelectionConfig
from cgd_ray.data.durable import durable_records
from cgd_ray.data.reasons import ReasonCounts
from cgd_ray.data.records import RECORDS_VERSION, SELECTED_SCHEMA, TURNS, unusable
from cgd_ray.data.rundir import atomic_write, write_manifest
from cgd_ray.problems.decontamination import Benchmarks
from cgd_ray.selection.grading import Grader
from cgd_ray.selection.leakage import LEAKS, find_leaks

ROWS_PER_BATCH = 4096  # graded and written at once; bounds memory
COUNTED = ["error", "critique_finish_reason", "verdict", "leaks", "attempt_correct", "refinement_correct", "drop_reason"]


def select_records(
    config: SelectionConfig, records: Path, selected: Path, on_progress: Callable[[int], None], benchmarks: Benchmarks | None = None
) -> dict[str, Any]:
    """Read the records that are there, write them with grades, leaks and `drop_reason` (SELECTED_SCHEMA); return the manifest's counts.

    Records whose question overlaps with `benchmarks` are dropped as contaminated. Raises ValueError for what durable_records() refuses.
    """
    started = time.monotonic()
    counts, made = Counts(), durable_records(records)
    output = selected / "selected.parquet"
    with (
        Selector(config, benchmarks) as selector,
        atomic_write(output) as temporary,
        pq.ParquetWriter(temporary, SELECTED_SCHEMA) as writer,
    ):
        for part in made.parts:
            for batch in selector.selected(part):
                counts.add(batch)
                writer.write_table(batch)
                on_progress(batch.num_rows)
    details = {"version": RECORDS_VERSION, **counts.as_dict(), "seconds": time.monotonic() - started}
    write_manifest(selected, made.fingerprint, [output], details)
    return details


class Selector:
    """Grades records and decides on each of them; every decision is about one record alone."""

    def __init__(self, config: SelectionConfig, benchmarks: Benchmarks | None = None) -> None:
        self._config, self._benchmarks = config, benchmarks
        self._grader = Grader(config.grading_timeout_s)

    def __enter__(self) -> "Selector":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._grader.close()

    def selected(self, part: Path) -> Iterator[pa.Table]:
        """The records of one file with grades, leaks and `drop_reason` (SELECTED_SCHEMA), some at a time."""
        for batch in pq.ParquetFile(part).iter_batches(ROWS_PER_BATCH):
            rows = _graded(batch.to_pylist(), self._grader)
            for row in rows:
                row["leaks"] = None if row["error"] is not None or row["refinement"] is None else find_leaks(row)
                row["drop_reason"] = drop_reason(row, self._config.keep, self._config.drop_leaks) or _contaminated(row, self._benchmarks)
            yield pa.Table.from_pylist(rows, schema=SELECTED_SCHEMA)


def drop_reason(row: Mapping[str, Any], keep: str, drop_leaks: Sequence[str] = ()) -> str | None:
    """Why a graded record is not trained on, or None to keep it. The first reason in the order of the stages counts."""
    if row["error"] is not None:
        return "failed"
    if (reason := unusable(row, TURNS)) is not None:
        return reason
    if keep == "verified" and row["refinement_correct"] is not True:
        return "not_verified"
    if keep == "repaired" and not (row["attempt_correct"] is False and row["refinement_correct"] is True):
        return "not_repaired"
    return next((leak for leak in drop_leaks if leak in row["leaks"]), None)


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
        self.written = self.failed = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.errors = ReasonCounts()
        self.verdicts = Counter({"right": 0, "wrong": 0, "missing": 0})
        self.repair = Counter({f"{before}_to_{after}": 0 for before in ("wrong", "right") for after in ("right", "wrong")})
        self.leakage = Counter(dict.fromkeys(LEAKS, 0))

    def add(self, records: pa.Table) -> None:
        """Count selected records."""
        for row in records.select(COUNTED).to_pylist():
            self._add(row)

    def _add(self, row: Mapping[str, Any]) -> None:
        self.written += 1
        if row["error"] is not None:
            self.failed += 1
            self.errors.add(row["error"])
            return
        if row["critique_finish_reason"] is not None:
            self.verdicts[row["verdict"] or "missing"] += 1
        self.leakage.update(row["leaks"] or ())
        if row["attempt_correct"] is not None and row["refinement_correct"] is not None:
            before, after = ("right" if row[f"{stage}_correct"] else "wrong" for stage in ("attempt", "refinement"))
            self.repair[f"{before}_to_{after}"] += 1
        if row["drop_reason"] is None:
            self.kept += 1
        else:
            self.dropped[row["drop_reason"]] += 1

    def as_dict(self) -> dict[str, Any]:
        """As the manifest of the selected records holds them."""
        return {
            "written": self.written,
            "failed": self.failed,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "errors": self.errors.most_common(),
            "verdicts": dict(self.verdicts),
            "repair": dict(self.repair),
            "leakage": dict(self.leakage),
        }
