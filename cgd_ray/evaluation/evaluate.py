"""Evaluates one model prompt-only: the problem alone goes in, one pass of the engine pool answers all papers, graders judge.

This is the headline of the method: critiques exist in training only. Each paper's answers, grades and report are kept beside each other
under fingerprints: what is answered is not asked again, and what is graded otherwise is graded anew from the answers that are there.
How to use: `reports = Exam(role=role, prompts=prompts, papers=papers, grading_timeout_s=5)(directory, on_progress)`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import RoleConfig
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import atomic_write, manifest_parts, read_manifest, write_json, write_manifest
from cgd_ray.engines.engine import EngineFactory
from cgd_ray.engines.real import RealEngines
from cgd_ray.evaluation.papers import Paper, model_fingerprint
from cgd_ray.evaluation.report import Report, Tally
from cgd_ray.evaluation.running import Grades, answers_to, estimating
from cgd_ray.evaluation.sitting import ANSWERS, is_answered, sittings
from cgd_ray.generation.progress import ROWS
from cgd_ray.grading.graders import grader_named
from cgd_ray.grading.verdict import Verdict

ANSWERED = f"student{ROWS}"
"""Count of answers in what a display is told."""
OnProgress = Callable[[dict[str, int], str], None]
"""Gets the counts of generation/progress.py, those of all papers together, and how the model does so far, in a few words."""
GRADED_SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample_index", pa.int32()),
        ("question", pa.string()),
        ("reference_answer", pa.string()),  # null where instructions are to be followed
        ("attempt", pa.string()),  # the answer; null when the row failed
        ("attempt_thinking", pa.string()),
        ("attempt_tokens", pa.int32()),
        ("attempt_finish_reason", pa.string()),
        ("error", pa.string()),
        ("extracted", pa.string()),  # what was taken for the final answer
        ("correct", pa.bool_()),  # false where nothing could be graded
        ("grade_reason", pa.string()),
        ("found_by", pa.string()),  # "box", "phrase", "last number" and so on: strict accuracy counts boxes only; null where none was taken
    ]
)
GRADED_NAMES = ("extracted", "correct", "grade_reason", "found_by")


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Papers, and the model that is asked them."""

    role: RoleConfig
    """The model, where it runs and how it decodes."""
    prompts: Prompts
    papers: Sequence[Paper]
    grading_timeout_s: float
    engine_factory: EngineFactory | None = None
    """Null for the real engines."""

    def has_reports(self, directory: Path) -> bool:
        """Whether there is a report on each paper, whoever was asked."""
        return all((directory / paper.name / "report.json").exists() for paper in self.papers)

    def is_finished(self, directory: Path) -> bool:
        """Whether the reports are there, and on this model. Raises ValueError for answers of another model, prompt or decoding."""
        begun = [paper for paper in self.papers if (directory / paper.name).exists() and paper.work_list.exists()]
        reports = [self._report(directory, paper, fingerprint) for paper, fingerprint in self._fingerprints(begun).items()]
        return len(begun) == len(self.papers) and None not in reports

    def __call__(self, directory: Path, on_progress: OnProgress | None = None) -> dict[str, Report]:
        """Answer and grade what is missing in the model's directory; returns each paper's report. Raises as is_finished()."""
        fingerprints = self._fingerprints(self.papers)
        with ExitStack() as stack:
            names = {paper.grader for paper in self.papers}
            grades = Grades({name: stack.enter_context(grader_named(name, self.grading_timeout_s)) for name in names})
            for sitting in sittings(directory, fingerprints):
                before = sum(paper.rows.num_rows for paper in self.papers) - sitting.num_rows
                with estimating(sitting, self.prompts, grades, only_if=on_progress is not None) as estimate:
                    sitting.answer(self.role, self.prompts, _display(on_progress, before, estimate), self._factory(directory))
            return {
                paper.name: self._report(directory, paper, fingerprint) or self._graded(directory, paper, fingerprint, grades)
                for paper, fingerprint in fingerprints.items()
            }

    def _fingerprints(self, papers: Sequence[Paper]) -> dict[Paper, str]:
        model = model_fingerprint(self.role, self.prompts)
        return {paper: paper.answers_fingerprint(model, self.prompts) for paper in papers}

    def _settings(self, paper: Paper) -> dict[str, Any]:
        """What an evaluation must share to be compared with this one."""
        prompt = {"system": self.prompts.student_system, "user": getattr(self.prompts, paper.wording)}
        return {"prompt": prompt, "sampling": self.role.sampling.model_dump(mode="json")}

    def _factory(self, directory: Path) -> EngineFactory:
        return self.engine_factory or RealEngines(spending=directory / "spending")

    def _report(self, directory: Path, paper: Paper, fingerprint: str) -> Report | None:
        """The report that is there for just this."""
        if not is_answered(directory, paper, fingerprint):
            return None
        manifest = read_manifest(directory / paper.name)
        if manifest is None or manifest["fingerprint"] != paper.report_fingerprint(fingerprint):
            return None
        return {name: value for name, value in manifest.items() if name != "parts"}

    def _graded(self, directory: Path, paper: Paper, fingerprint: str, grades: Grades) -> Report:
        """Grade a paper's answers and publish what came out."""
        started, home = time.monotonic(), directory / paper.name
        answered = read_manifest(home / ANSWERS)
        assert answered is not None, "the papers are answered before they are graded"
        tally, graded = Tally(paper), home / "graded.parquet"
        kind = grades.kind(paper)
        with atomic_write(graded) as temporary, pq.ParquetWriter(temporary, GRADED_SCHEMA) as writer:
            first = 0
            for part in manifest_parts(home / ANSWERS):
                rows = pq.read_table(part)
                places, texts = range(first, first + rows.num_rows), rows["attempt"].to_pylist()
                verdicts = grades.verdicts(paper, places, texts)
                writer.write_table(_graded_rows(rows, verdicts))
                tally.add(rows, answers_to(paper, places, texts), verdicts)
                first += rows.num_rows
        grades.forget(paper)
        report = {
            "model": self.role.model,
            **tally.report(kind),
            "settings": self._settings(paper),
            "seconds": answered["seconds"] + time.monotonic() - started,
            "fingerprint": paper.report_fingerprint(fingerprint),
        }
        write_json(home / "report.json", report)
        write_manifest(home, report["fingerprint"], [graded, home / "report.json"], report)
        return report


def _display(on_progress: OnProgress | None, before: int, estimate: Callable[[], str]) -> Callable[[dict[str, int]], None] | None:
    """What a sitting tells, with what was answered before it."""
    if on_progress is None:
        return None
    return lambda counts: on_progress({**counts, ANSWERED: counts[ANSWERED] + before}, estimate())


def _graded_rows(rows: pa.Table, verdicts: Sequence[Verdict]) -> pa.Table:
    grades: Mapping[str, list[Any]] = {
        "extracted": [verdict.extracted for verdict in verdicts],
        "correct": [verdict.correct is True for verdict in verdicts],
        "grade_reason": [verdict.reason for verdict in verdicts],
        "found_by": [verdict.found_by for verdict in verdicts],
    }
    columns = [grades[field.name] if field.name in GRADED_NAMES else rows[field.name] for field in GRADED_SCHEMA]
    return pa.table(dict(zip(GRADED_SCHEMA.names, columns, strict=True)), schema=GRADED_SCHEMA)
