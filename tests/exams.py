"""Papers, and answers to them as a pass of an engine pool leaves them, without an engine."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import RoleConfig
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import PROBLEM_SCHEMA, WORK_SCHEMA, columns_of, short_hash
from cgd_ray.data.rundir import write_manifest
from cgd_ray.evaluation.evaluate import Exam
from cgd_ray.evaluation.papers import Paper, model_fingerprint
from cgd_ray.evaluation.sitting import ANSWERS_SCHEMA, Sitting, sittings
from cgd_ray.problems.work_list import make_work_list

Answering = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""What a model makes of a row that it is asked: the attempt, and other columns that are not as they usually are."""
ROWS_PER_PART = 3


def paper_of(directory: Path, name: str, questions: Mapping[str, str | None], num_samples: int = 1, **settings: Any) -> Paper:
    """A paper of questions with their reference answers."""
    rows = [
        {"problem_id": short_hash(question), "question": question, "reference_answer": answer} for question, answer in questions.items()
    ]
    work_list = directory / f"{name}.parquet"
    pq.write_table(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples), work_list)
    return Paper(name=name, work_list=work_list, **settings)


def exam_of(papers: Sequence[Paper], model: str = "nobody/nothing", **settings: Any) -> Exam:
    """An exam of a model that nobody can load."""
    role = RoleConfig.model_validate({"model": model})
    return Exam(role=role, prompts=Prompts(), papers=papers, grading_timeout_s=5, **settings)


def next_sitting(exam: Exam, directory: Path) -> Sitting | None:
    """What is still to be answered."""
    model = model_fingerprint(exam.role, exam.prompts)
    return next(sittings(directory, {paper: paper.answers_fingerprint(model, exam.prompts) for paper in exam.papers}), None)


def answer(exam: Exam, directory: Path, answering: Answering) -> list[dict[str, Any]]:
    """Leave the answers to what is still to be answered as an engine pool does, in any order; returns the rows as they were asked."""
    sitting = next_sitting(exam, directory)
    assert sitting is not None, "there is something left"
    asked = [dict(row) for paper in sitting.fingerprints for row in paper.asked(exam.prompts).to_pylist()]
    done = [answered(row, answering) for row in reversed(asked)]
    sitting.output.mkdir(parents=True)
    parts = []
    for start in range(0, len(done), ROWS_PER_PART):
        parts.append(sitting.output / f"{start:03}.parquet")
        pq.write_table(pa.Table.from_pylist(done[start : start + ROWS_PER_PART], schema=ANSWERS_SCHEMA), parts[-1])
    tokens = {"attempt": {"tokens": sum(row["attempt_tokens"] or 0 for row in done)}}
    made = short_hash(json.dumps({"attempt": model_fingerprint(exam.role, exam.prompts)}))
    write_manifest(sitting.output, made, parts, {"tokens": tokens, "seconds": 8.0, "engine_seconds": {"student": 4.0}})
    return asked


def answered(row: Mapping[str, Any], answering: Answering) -> dict[str, Any]:
    """A row as it comes back."""
    usual = {"attempt_tokens": 2, "attempt_prompt_tokens": 5, "attempt_cached_tokens": 0, "attempt_finish_reason": "stop"}
    columns = dict.fromkeys(columns_of("attempt"))
    return {**{name: row[name] for name in WORK_SCHEMA.names}, **columns, **usual, **answering(row)}
