"""A run directory is diagnosed as far as it has come, and what is written is what is returned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config
from cgd_ray.config.evaluation import DiagnosticsConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.rundir import RunDir, read_json, write_manifest
from cgd_ray.evaluation.diagnostics.contexts import targets_of
from cgd_ray.evaluation.diagnostics.diagnose import diagnose_drift, diagnose_nll, sample_of, share_with
from cgd_ray.evaluation.diagnostics.measuring import OnProgress, Student
from tests.builders import tiny_model, tiny_records, write_selected
from tests.unit.evaluation.diagnostics.test_style import answer


def score(student: Student, examples: Sequence[Example], on_progress: OnProgress) -> list[np.ndarray]:
    """The trained student is twice as sure."""
    loss = 0.5 if Path(student.model).name == "model" else 1.0
    return [np.full(len(targets_of(example)), loss, np.float32) for example in examples]


def config_of(root: Path) -> Config:
    model = str(tiny_model(root / "student"))
    tree: dict[str, Any] = {"run_dir": str(root / "run"), "problems": {"path": "problems.jsonl"}}
    return Config.model_validate({**tree, "student": {"model": model}, "teacher": {"model": model}, "training": {"precision": "fp32"}})


def nll_of(config: Config, run: RunDir, settings: DiagnosticsConfig) -> dict[str, Any]:
    config, chat = config.model_copy(update={"diagnostics": settings}), Chat.of(config.student)
    return diagnose_nll(config, run, sample_of(config, run, chat), chat, lambda examples: None, score)


def write_graded(directory: Path, texts: Sequence[str]) -> None:
    directory.mkdir(parents=True)
    rows = [{**answer(text), "problem_id": str(number)} for number, text in enumerate(texts)]
    types = {"attempt_thinking": pa.string(), "error": pa.string()}
    table = pa.Table.from_pylist(rows)
    for name, kind in types.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
    pq.write_table(table, directory / "graded.parquet")
    write_manifest(directory, "test", [directory / "graded.parquet"], {})


def test_the_trained_student_is_compared_once_it_is_there(tmp_path: Path) -> None:
    config, run = config_of(tmp_path), RunDir(tmp_path / "run")
    write_selected(run.selected, tiny_records(6))
    before = nll_of(config, run, DiagnosticsConfig(max_records=4, per_token=True))
    assert before["records"]["sampled"] == 4
    assert "internalised" not in before["groups"]["all"]
    assert pq.read_metadata(run.root / "diagnostics" / "token_gains.parquet").num_rows == 4
    write_manifest(tiny_model(run.model, seed=1), "test", [run.model / "model.safetensors"], {})
    after = nll_of(config, run, DiagnosticsConfig(max_records=4))
    assert after["groups"]["all"]["internalised"] == {"mean": 0.5, "standard_error": 0.0}
    assert after["models"]["base"] == before["models"]["base"]
    assert after == read_json(run.root / "diagnostics" / "nll.json")
    assert not (run.root / "diagnostics" / "token_gains.parquet").exists()


def test_a_precision_that_is_not_settled_is_one_line(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config = config.model_copy(update={"training": config.training.model_copy(update={"precision": "auto"})})
    with pytest.raises(ValueError, match=r"training\.precision is auto"):
        Student.of(config)


def test_drift_is_told_of_each_benchmark_that_both_have_answered(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_selected(run.selected, tiny_records(4))
    write_graded(run.evaluation("base") / "problems", ["It is \\boxed{5}."] * 20)
    write_graded(run.evaluation("base") / "gsm8k", ["It is \\boxed{5}."] * 20)
    assert diagnose_drift(run) == {"advisories": [], "benchmarks": {}}
    write_graded(run.evaluation("trained") / "problems", ["It is 5."] * 20)
    found = diagnose_drift(run)["benchmarks"]
    assert list(found) == ["problems"]
    assert [advisory["title"] for advisory in found["problems"]["advisories"]] == ["Answers lose their box"]


def test_thoughts_are_found_in_the_footers(tmp_path: Path) -> None:
    rows = tiny_records(8)
    for row in rows[:6]:
        row["attempt_thinking"] = "Two and three."
    selected = write_selected(RunDir(tmp_path).selected, rows)
    assert share_with([selected / "selected.parquet"], "attempt_thinking") == 0.75
    assert share_with([selected / "selected.parquet"], "leaks") == 0.0
    (advisory,) = diagnose_drift(RunDir(tmp_path))["advisories"]
    assert "75% of its attempts" in advisory["detail"]
