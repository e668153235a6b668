"""Evaluates one model prompt-only: the problem alone goes in, one pass of the engine pool answers, math-verify grades.

This is the headline of the method: critiques exist in training only. Answers, grades and a report are kept beside each other.
How to use: `report = evaluate(config, config.student, "base", work_list, run, on_progress)`.
"""

import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.rundir import RunDir, atomic_write, manifest_parts, read_manifest, write_json, write_manifest
from cgd_ray.evaluation.metrics import mean_pass_at_k, wilson_interval
from cgd_ray.generation.pipeline import run_attempts
from cgd_ray.generation.progress import ProgressFn
from cgd_ray.grading.grader import Grader, is_boxed


def evaluate(
    config: Config, student: RoleConfig, name: str, work_list: Path, run: RunDir, on_progress: ProgressFn | None = None
) -> dict[str, Any]:
    """Answer the work list with the student, as it was or as it is trained, and return the report, which is also written as report.json."""
    assert config.evaluation is not None, "the caller skips the evaluation when none is configured"
    role = student.model_copy(update={"sampling": config.evaluation.sampling})
    exam = Exam(
        student=role, prompts=load_prompts(config.prompts), work_list=work_list, grading_timeout_s=config.selection.grading_timeout_s
    )
    return exam(student.model, run.evaluation(name), on_progress)


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Problems, and how they are answered and graded, by any model. Crosses processes."""

    student: RoleConfig
    """Everything but the model."""
    prompts: Prompts
    work_list: Path
    """WORK_SCHEMA, with reference answers."""
    grading_timeout_s: float

    def __call__(self, model: str, directory: Path, on_progress: ProgressFn | None = None) -> dict[str, Any]:
        """Answer all problems; answers, grades and report are kept in `directory`, and the report is returned."""
        started = time.monotonic()
        role = self.student.model_copy(update={"model": model})
        run_attempts(role, self.prompts, self.work_list, directory / "answers", on_progress)
        answers = pa.concat_tables([pq.read_table(part) for part in manifest_parts(directory / "answers")]).sort_by(
            [("problem_id", "ascending"), ("sample_index", "ascending")]
        )
        with Grader(self.grading_timeout_s) as grader:
            grades = grader.grade(list(zip(answers["attempt"].to_pylist(), answers["reference_answer"].to_pylist(), strict=True)))
        report = {"model": model, **_report(answers, grades), "seconds": time.monotonic() - started}
        graded = directory / "graded.parquet"
        with atomic_write(graded) as temporary:
            pq.write_table(answers.append_column("correct", pa.array([bool(grade) for grade in grades])), temporary)
        write_json(directory / "report.json", report)
        manifest = read_manifest(directory / "answers")
        assert manifest is not None, "manifest_parts has read it above"
        write_manifest(directory, manifest["fingerprint"], [graded, directory / "report.json"], report)
        return report


def _report(answers: pa.Table, grades: list[bool | None]) -> dict[str, Any]:
    """Rates over answers; an answer that failed or was never boxed counts as wrong."""
    problem_ids = answers["problem_id"].to_pylist()
    graded = zip(problem_ids, (bool(grade) for grade in grades), strict=True)
    by_problem = [[correct for _, correct in group] for _, group in groupby(graded, key=lambda pair: pair[0])]
    accuracy = mean_pass_at_k(by_problem, k=1)
    low, high = wilson_interval(accuracy, len(by_problem))
    texts = answers["attempt"].to_pylist()
    finish_reasons = answers["attempt_finish_reason"].to_pylist()
    return {
        "pass@1": accuracy,
        "pass@1_interval": [low, high],
        "num_problems": len(by_problem),
        "num_samples": len(texts) // len(by_problem),
        "truncated": finish_reasons.count("length") / len(texts),
        "unboxed": sum(text is None or not is_boxed(text) for text in texts) / len(texts),
        "failed": sum(error is not None for error in answers["error"].to_pylist()) / len(texts),
    }
