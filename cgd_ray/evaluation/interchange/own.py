"""Evaluations of this project: a directory with graded.parquet, report.json and the manifest that says that both are whole.

How to use: `evaluation = read_own(run.evaluation("trained") / "gsm8k")`.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.data.json_text import read_object
from cgd_ray.data.rundir import read_manifest
from cgd_ray.evaluation.interchange.neutral import GRADER, NUM_SAMPLES, OWN_KEY, PROMPT, SAMPLING, Answer, Evaluation, Problem

GRADED, REPORT = "graded.parquet", "report.json"
NEEDED = ("problem_id", "sample_index", "correct")
USED = (
    *NEEDED,
    "question",
    "reference_answer",
    "attempt",
    "attempt_tokens",
    "attempt_finish_reason",
    "error",
    "extracted",
    "grade_reason",
)
ROWS_AT_ONCE = 512  # of 30 KB each


def read_own(directory: Path) -> Evaluation:
    """The evaluation in a directory. Raises ValueError, one line, when it is unfinished or not whole."""
    if read_manifest(directory) is None:
        raise ValueError(f"{directory} has no manifest.json, so the evaluation is unfinished; run it to its end")
    report = read_object(directory / REPORT)
    try:
        columns = pq.read_schema(directory / GRADED).names
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{directory / GRADED} cannot be read ({error}); evaluate again") from None
    if missing := [name for name in NEEDED if name not in columns]:
        raise ValueError(f"{directory / GRADED} has no column {missing[0]!r}; evaluate again")
    recorded = report.get("settings") or {}
    return Evaluation(
        source=OWN_KEY,
        path=directory,
        benchmark=report.get("benchmark", "problems"),
        model=report.get("model", directory.name),
        settings={
            PROMPT: recorded.get(PROMPT),
            SAMPLING: recorded.get(SAMPLING),
            GRADER: report.get("grader"),
            NUM_SAMPLES: report.get("num_samples"),
        },
        words=OWN_KEY,
        finished=(directory / REPORT).stat().st_mtime,
        problems=partial(_problems, directory / GRADED, [name for name in USED if name in columns]),
    )


def _problems(file: Path, columns: list[str]) -> Iterator[Problem]:
    for problem_id, group in groupby(_rows(file, columns), key=lambda row: row["problem_id"]):
        rows = list(group)
        yield Problem(
            id=problem_id,
            question=rows[0].get("question"),
            reference_answer=rows[0].get("reference_answer"),
            answers=tuple(_answer(row) for row in rows),
        )


def _rows(file: Path, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} cannot be read ({error}); evaluate again") from None


def _answer(row: Mapping[str, Any]) -> Answer:
    return Answer(
        correct=bool(row["correct"]),
        graded=row.get("error") is None,
        text=row.get("attempt"),
        extracted=row.get("extracted"),
        reason=row.get("grade_reason"),
        finish_reason=row.get("attempt_finish_reason"),
        num_tokens=row.get("attempt_tokens"),
        error=row.get("error"),
    )
