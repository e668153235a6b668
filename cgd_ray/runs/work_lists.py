"""The problems that a run begins with: read, compared with benchmarks, and made into work lists, before anything heavy starts.

A work list that a run has begun with is all that its later stages need, so `cgd train` and `cgd evaluate` do not read a source again, and
one that is gone stops nobody. `cgd generate` and `cgd run` do read it, to refuse one that has changed.
How to use: `work_lists, decontamination = make_work_lists("run", config, run, notes)`; and `check_given_records(config,
Path(config.records))` where records are given. `notes` are lines for the user.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import PROBLEMS, Config, EvaluationConfig
from cgd_ray.data.durable import durable_records
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.data.rundir import RunDir
from cgd_ray.evaluation.benchmarks.catalogue import benchmark_named
from cgd_ray.evaluation.benchmarks.loading import load_benchmark
from cgd_ray.grading.graders import kind_named
from cgd_ray.problems.decontamination import decontaminate
from cgd_ray.problems.mixing import load_training_problems
from cgd_ray.problems.sources import load_problems
from cgd_ray.problems.work_list import check_work_list, make_work_list
from cgd_ray.training.examples.arms import check_columns
from cgd_ray.training.examples.choosing.held_out import problems_to_answer

LATER = ("train", "evaluate")
"""Commands that go on from the work lists that are there."""


def make_work_lists(command: str, config: Config, run: RunDir, notes: list[str]) -> tuple[dict[Path, pa.Table], dict[str, Any] | None]:
    """Each work list that the run has or begins with, by its path, and the report on the benchmarks when problems were compared with some.

    The problems to evaluate and to validate on are read too: a wrong column is better found now than after a night of generation. Raises
    ValueError, one line, for a source that cannot be read before its work list is written, or that has changed since.
    """
    reports: list[dict[str, Any]] = []
    recorded = run.recorded_config() or config
    goes_on = command in LATER and config.problems == recorded.problems

    def training() -> pa.Table:
        problems = _training_problems(config, run, notes, reports)
        for setting in _graded_by(config):
            _check_answers(problems, setting, "problems")
        return make_work_list(problems, config.generation.num_samples)

    lists = {run.work_list: _settled(goes_on, run.work_list, training, notes)}
    if config.evaluation is not None:
        lists |= make_evaluation_lists(command, config.evaluation, recorded.evaluation or config.evaluation, run, notes)
    if config.training.validation is not None and config.training.validation.answers is not None:
        lists[run.validation_work_list] = problems_to_answer(lists[run.work_list], config.training.validation)
        check_work_list(lists[run.validation_work_list], run.validation_work_list)
    return lists, reports[0] if reports else None


def make_evaluation_lists(
    command: str, evaluation: EvaluationConfig, recorded: EvaluationConfig, run: RunDir, notes: list[str]
) -> dict[Path, pa.Table]:
    """The same for what is asked of a model that is evaluated: each benchmark's list, by its path.

    `recorded` is the evaluation that the run has begun with, if it has: a source that is another now is read again and compared.
    """
    _check_graders(evaluation)
    lists: dict[Path, pa.Table] = {}
    if evaluation.problems is not None:
        path, goes_on = run.evaluation_work_list(PROBLEMS), command in LATER and evaluation.problems == recorded.problems
        lists[path] = _settled(goes_on, path, lambda: _own_problems(evaluation, notes), notes)
    for benchmark in evaluation.benchmarks:
        path, goes_on = run.evaluation_work_list(benchmark.name), command in LATER and benchmark in recorded.benchmarks
        published, num_samples = benchmark_named(benchmark.name), evaluation.samples_of(benchmark)
        lists[path] = _settled(goes_on, path, partial(load_benchmark, published, benchmark, num_samples, notes), notes)
    return lists


def _settled(goes_on: bool, path: Path, make: Callable[[], pa.Table], notes: list[str]) -> pa.Table:
    """The work list at a path, or else a new one; unless the command just goes on with the first, they must be the same."""
    if path.exists() and goes_on:
        return pq.read_table(path)
    try:
        work = make()
    except ValueError as error:
        if not path.exists():
            raise
        notes.append(f"{error}; the run goes on with the problems that it began with, {path}")
        return pq.read_table(path)
    check_work_list(work, path)
    return work


def _training_problems(config: Config, run: RunDir, notes: list[str], reports: list[dict[str, Any]]) -> pa.Table:
    """The problems to train on, as PROBLEM_SCHEMA; given records hold theirs, so that their source need not be there any more."""
    try:
        problems = load_training_problems(config.problems, notes)
    except ValueError as error:
        if config.records is None or run.work_list.exists():
            raise
        problems = _problems_of_records(Path(config.records))
        if problems.num_rows == 0:
            raise
        notes.append(f"{error}; the problems are taken from the records in {config.records}")
        return problems
    if config.problems.decontaminate is None:
        return problems
    problems, report = decontaminate(problems, config.problems.decontaminate, notes)
    reports.append(report)
    return problems


def _problems_of_records(records: Path) -> pa.Table:
    """Each problem once that has a record."""
    parts = durable_records(records).parts
    tables = [pq.read_table(part, columns=PROBLEM_SCHEMA.names, schema=PROBLEM_SCHEMA) for part in parts]
    first = {row["problem_id"]: {**row, "error": _of_problem(row["error"])} for table in tables for row in table.to_pylist()}
    return pa.Table.from_pylist([first[name] for name in sorted(first)], schema=PROBLEM_SCHEMA)


def _of_problem(error: str | None) -> str | None:
    """What was wrong with a problem from the beginning, and not with what a model made of it."""
    return error if error is not None and error.startswith("problem:") else None


def _check_graders(evaluation: EvaluationConfig) -> None:
    names = {f"evaluation.benchmarks.{each.name}.grader": each.grader for each in evaluation.benchmarks if each.grader is not None}
    for setting, name in {"evaluation.grader": evaluation.grader, **names}.items():
        try:
            kind_named(name)
        except ValueError as error:
            raise ValueError(f"{setting}: {error}") from None


def _own_problems(evaluation: EvaluationConfig, notes: list[str]) -> pa.Table:
    assert evaluation.problems is not None, "the caller skips an evaluation without"
    held_out = load_problems(evaluation.problems, "evaluation.problems", notes)
    _check_answers(held_out, "evaluation", "evaluation.problems")
    return make_work_list(held_out, evaluation.num_samples)


def _graded_by(config: Config) -> list[str]:
    """Settings that mean nothing where no answer can be graded."""
    keep, attempts = config.selection.keep, config.generation.refine_attempts
    grading = {f"selection.keep {keep}": keep != "all", f"generation.refine_attempts {attempts}": attempts > 1}
    return [setting for setting, grades in grading.items() if grades]


def _check_answers(problems: pa.Table, setting: str, source: str) -> None:
    if problems["reference_answer"].null_count == problems.num_rows:
        raise ValueError(
            f"{setting} grades answers, and none of the {problems.num_rows:,} problems has a reference answer; map "
            f"{source}.fields.reference_answer, or leave {setting.partition(' ')[0]} out"
        )


def check_given_records(config: Config, records: Path) -> None:
    """Raise ValueError when another run's records are none, are of another version, or lack what the training's arms read."""
    parts = durable_records(records).parts
    if not parts:
        raise ValueError(f"records {records} has no part that is written yet; give RUN_DIR/records of a generation that has come further")
    columns = pq.read_schema(parts[0]).names
    for arm in config.training.arm_shares:
        check_columns(arm, columns)
