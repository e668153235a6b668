"""The problems that a run begins with: read, compared with benchmarks, and made into work lists, before anything heavy starts.

How to use: `problems, decontamination = training_problems(config, notes)`, then `make_work_lists(config, run, problems, notes)`; and
`check_given_records(config, Path(config.records))` where records are given. `notes` are lines for the user.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import Config
from cgd_ray.data.durable import durable_records
from cgd_ray.data.rundir import RunDir
from cgd_ray.problems.decontamination import decontaminate
from cgd_ray.problems.sources import load_problems
from cgd_ray.problems.work_list import check_work_list, make_work_list
from cgd_ray.training.examples.arms import check_columns
from cgd_ray.training.examples.held_out import problems_to_answer


def training_problems(config: Config, notes: list[str]) -> tuple[pa.Table, dict[str, Any] | None]:
    """The problems to train on and, when they were compared with benchmarks, the report on that."""
    problems = load_problems(config.problems, "problems", notes)
    if config.problems.decontaminate is None:
        return problems, None
    return decontaminate(problems, config.problems.decontaminate)


def make_work_lists(config: Config, run: RunDir, problems: pa.Table, notes: list[str]) -> dict[Path, pa.Table]:
    """Read the problems to evaluate and to validate on too: a wrong column is better found now than after a night of generation."""
    for setting in _graded_by(config):
        _check_answers(problems, setting, "problems")
    lists = {run.work_list: make_work_list(problems, config.generation.num_samples)}
    if config.evaluation is not None:
        held_out = load_problems(config.evaluation.problems, "evaluation.problems", notes)
        _check_answers(held_out, "evaluation", "evaluation.problems")
        lists[run.evaluation_work_list] = make_work_list(held_out, config.evaluation.num_samples)
    if config.training.validation is not None and config.training.validation.answers is not None:
        lists[run.validation_work_list] = problems_to_answer(lists[run.work_list], config.training.validation)
    for path, work in lists.items():
        check_work_list(work, path)
    return lists


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
