"""How often a student is right once it is shown a critique of its attempt, beside how often it is right from the problem alone.

The critique is there in the training only, so the second is what counts; the first tells what the student can make of a critique at all.
Where it gains nothing from one, a training on such critiques has nothing to hand on but the refinements. Both are answered greedily in one
pass of the student's engines, which is kept as an evaluation's is: by a fingerprint of model, decoding, conversations and references.
A problem is asked once, by its first record of the sample, so that the two are paired problem by problem.
How to use: `conditioned_accuracy(config, run, sample, examine)`, where `examine(name, exam, directory)` has the engines answer.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.records import WORK_SCHEMA, make_record_id, short_hash
from cgd_ray.data.rundir import RunDir, atomic_write, read_manifest
from cgd_ray.evaluation.benchmarks.loading import MESSAGES
from cgd_ray.evaluation.diagnostics.contexts import Revision, Sample
from cgd_ray.evaluation.diagnostics.nll import AFTER, BEFORE
from cgd_ray.evaluation.differences import graded
from cgd_ray.evaluation.evaluate import Exam
from cgd_ray.evaluation.papers import ASKED_SCHEMA, Paper, model_fingerprint
from cgd_ray.evaluation.report import Report
from cgd_ray.evaluation.statistics.paired import compare_paired

ALONE, GIVEN = "alone", "given_critique"
GRADER = "boxed-math"
TOLD = ("interval", "interval_kind", "truncated", "unboxed", "failed")
"""Of each of the two reports."""

Examine = Callable[[str, Exam, Path], Mapping[str, Report]]
"""Has a student, by its name, answer and grade what is missing of an exam in a directory."""


def conditioned_accuracy(config: Config, run: RunDir, sample: Sample, examine: Examine) -> dict[str, Any] | None:
    """Each student's accuracy with and without the critique, and their difference; None where no record has a reference answer.

    Raises what the engines' pass raises; the same call goes on then.
    """
    revisions = _one_of_each_problem(sample)
    if not revisions:
        return None
    papers = _papers(revisions, run.diagnostics / "answers")
    return {
        "side": "held_out" if sample.side == "validation" else "training",
        "problems": len(revisions),
        "grader": GRADER,
        "students": {name: _student(name, _exam(config, role, papers), run, examine) for name, role in _students(config, run).items()},
    }


def _one_of_each_problem(sample: Sample) -> dict[str, Revision]:
    """By problem, of those with a reference answer."""
    found: dict[str, Revision] = {}
    for problem_id, revision in zip(sample.problem_ids, sample.revisions, strict=True):
        if revision.reference_answer is not None:
            found.setdefault(problem_id, revision)
    return found


def _students(config: Config, run: RunDir) -> dict[str, RoleConfig]:
    """The student before the training and, where there is one, after it, when it has its adapter in its weights."""
    students = {BEFORE: config.student}
    if read_manifest(run.model) is not None:
        students[AFTER] = config.student.model_copy(update={"model": str(run.model), "adapter": None})
    return students


def _exam(config: Config, student: RoleConfig, papers: Sequence[Paper]) -> Exam:
    """As evaluations decode where the config has any, but greedily."""
    sampling = (config.evaluation or student).sampling.model_copy(update={"temperature": 0.0})
    return Exam(
        role=student.model_copy(update={"sampling": sampling}),
        prompts=load_prompts(config.prompts),
        papers=papers,
        grading_timeout_s=config.selection.grading_timeout_s,
    )


def _papers(revisions: Mapping[str, Revision], directory: Path) -> list[Paper]:
    """The problems alone, and the same with attempt and critique."""
    rows = [
        {
            "record_id": make_record_id(problem_id, 0),
            "sample_index": 0,
            "problem_id": problem_id,
            "question": revision.question,
            "reference_answer": revision.reference_answer,
            MESSAGES: [asdict(message) for message in revision.messages],
        }
        for problem_id, revision in revisions.items()
    ]
    papers = []
    for name, schema in ((ALONE, WORK_SCHEMA), (GIVEN, ASKED_SCHEMA)):
        papers.append(Paper(name=name, work_list=directory / f"{name}.parquet", grader=GRADER))
        with atomic_write(papers[-1].work_list) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
    return papers


def _student(name: str, exam: Exam, run: RunDir, examine: Examine) -> dict[str, Any]:
    directory = _own_directory(name, exam, run.diagnostics / "answers")
    reports = examine(name, exam, directory)
    pair = compare_paired(graded(directory / ALONE), graded(directory / GIVEN))
    return {
        "model": exam.role.model,
        **{paper: {"accuracy": report["avg@k"], **{key: report[key] for key in TOLD}} for paper, report in reports.items()},
        "difference": pair.difference,
        "difference_interval": [pair.interval.low, pair.interval.high],
        "difference_interval_kind": pair.interval.kind,
        "p": pair.p_value,
        "test": pair.test,
        "better": pair.second_better,
        "worse": pair.first_better,
    }


def _own_directory(name: str, exam: Exam, answers: Path) -> Path:
    """One for just these questions to this model; answers to others, of an earlier diagnosis, go."""
    model = model_fingerprint(exam.role, exam.prompts)
    asked = short_hash(json.dumps([paper.answers_fingerprint(model, exam.prompts) for paper in exam.papers]))
    mine = answers / f"{name}-{asked}"
    for others in answers.glob(f"{name}-*"):
        if others != mine:
            shutil.rmtree(others)
    return mine
