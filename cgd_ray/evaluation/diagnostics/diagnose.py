"""Diagnoses a run directory: the teacher, what its critiques explain, what the student has made its own, how its answers have changed.

Each part needs what it reads and no more: after `generate` there are the teacher's numbers and the untrained student's losses and answers,
after `train` those of the trained one, after `evaluate` the drift. Everything is written beside the run, in RUN/diagnostics.
How to use, with Ray initialised and the config's precision settled: `found = diagnose(config, run, on_progress)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cgd_ray.config import Config
from cgd_ray.config.evaluation import DiagnosticsConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.rundir import RunDir, atomic_write, read_manifest, write_json
from cgd_ray.evaluation.diagnostics.conditioned import Examine, conditioned_accuracy
from cgd_ray.evaluation.diagnostics.contexts import Sample, sample_contexts
from cgd_ray.evaluation.diagnostics.drift import compare_drift, drift_of, thinking_student
from cgd_ray.evaluation.diagnostics.measuring import Losses, OnProgress, Score, Student, losses_of
from cgd_ray.evaluation.diagnostics.nll import AFTER, BEFORE, nll_report, token_gains
from cgd_ray.evaluation.diagnostics.style import READS
from cgd_ray.evaluation.diagnostics.verdicts import teacher_report
from cgd_ray.training.examples.preparation import selected_parts

ROWS_AT_ONCE = 256


def diagnose(
    config: Config,
    run: RunDir,
    on_progress: OnProgress = lambda examples: None,
    examine: Examine = lambda name, exam, directory: exam(directory),
    score: Score | None = None,
) -> dict[str, Any]:
    """Write RUN/diagnostics/{verdicts,nll,conditioned,drift}.json, and token_gains.parquet where it is asked for; returns what they hold.

    `conditioned` is null, and not written, without reference answers; `drift` is {"advisories", "benchmarks"}, without any before both
    students are evaluated. on_progress is told of scored examples, which are records x contexts x models. Raises ValueError when there are
    no selected records, or none that has all contexts.
    """
    settings, directory = config.diagnostics, run.diagnostics
    verdicts = teacher_report(
        selected_parts(run.selected),
        max_problems=settings.max_records,
        seed=settings.seed,
        grading_timeout_s=config.selection.grading_timeout_s,
    )
    write_json(directory / "verdicts.json", verdicts)
    chat = Chat.of(config.student)
    sample = sample_of(config, run, chat)
    nll = diagnose_nll(config, run, sample, chat, on_progress, score)
    conditioned = diagnose_answers(config, run, sample, examine)
    drift = diagnose_drift(run)
    write_json(directory / "drift.json", drift)
    return {"verdicts": verdicts, "nll": nll, "conditioned": conditioned, "drift": drift}


def sample_of(config: Config, run: RunDir, chat: Chat) -> Sample:
    """The records that are diagnosed. Raises ValueError where there are none."""
    return sample_contexts(
        config.training,
        load_prompts(config.prompts),
        chat,
        selected_parts(run.selected),
        max_records=config.diagnostics.max_records,
        seed=config.diagnostics.seed,
    )


def diagnose_nll(
    config: Config, run: RunDir, sample: Sample, chat: Chat, on_progress: OnProgress, score: Score | None = None
) -> dict[str, Any]:
    """Write nll.json and return what it holds; a model is scored again only where it or the examples are others than before."""
    directory, settings = run.diagnostics, config.diagnostics
    students = {BEFORE: Student.of(config)}
    if read_manifest(run.model) is not None:
        students[AFTER] = Student.of(config, run.model)
    losses = {name: losses_of(sample, student, directory / "nll" / name, on_progress, score) for name, student in students.items()}
    report = {
        **nll_report(sample, losses),
        "models": {name: {"model": student.model, "fingerprint": student.fingerprint(sample)} for name, student in students.items()},
        "settings": settings.model_dump(mode="json"),
    }
    write_json(directory / "nll.json", report)
    _write_gains(settings, sample, losses[BEFORE], chat, directory / "token_gains.parquet")
    return report


def diagnose_answers(config: Config, run: RunDir, sample: Sample, examine: Examine) -> dict[str, Any] | None:
    """Write conditioned.json and return what it holds; without reference answers there is none."""
    file = run.diagnostics / "conditioned.json"
    found = conditioned_accuracy(config, run, sample, examine)
    if found is None:
        file.unlink(missing_ok=True)
    else:
        write_json(file, found)
    return found


def diagnose_drift(run: RunDir) -> dict[str, Any]:
    """compare_drift() of each benchmark that both students have answered, and what is known of students such as this."""
    found = {}
    for graded in sorted(run.evaluation(BEFORE).glob("*/graded.parquet")):
        name = graded.parent.name
        trained = run.evaluation(AFTER) / name
        if read_manifest(graded.parent) is not None and read_manifest(trained) is not None:
            found[name] = compare_drift(drift_of(_rows(graded)), drift_of(_rows(trained / graded.name)))
    advisories = thinking_student(share_with(selected_parts(run.selected), "attempt_thinking"))
    return {"advisories": [asdict(advisory) for advisory in advisories], "benchmarks": found}


def share_with(parts: Sequence[Path], column: str) -> float:
    """Of all rows, those in which a column is not null: told by the files' footers, without reading a text."""
    num_rows = num_null = 0
    for part in parts:
        with pq.ParquetFile(part) as file:
            place = file.schema_arrow.names.index(column)  # none of the columns consists of several
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                num_rows, num_null = num_rows + group.num_rows, num_null + group.column(place).statistics.null_count
    return 1 - num_null / num_rows if num_rows else 0.0


def _rows(graded: Path) -> Iterator[Mapping[str, Any]]:
    for batch in pq.ParquetFile(graded).iter_batches(ROWS_AT_ONCE, columns=list(READS)):
        yield from batch.to_pylist()


def _write_gains(settings: DiagnosticsConfig, sample: Sample, losses: Losses, chat: Chat, path: Path) -> None:
    """Gains that are not asked for any more go, since they may be of other records."""
    if not settings.per_token:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as temporary:
        pq.write_table(token_gains(sample, losses, chat), temporary)
