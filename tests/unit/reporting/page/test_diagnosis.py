"""The page tells of a diagnosis what its files say, and nothing of what was not measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config.evaluation import DiagnosticsConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.rundir import RunDir, read_json, write_json, write_manifest
from cgd_ray.evaluation.diagnostics.diagnose import diagnose_answers, diagnose_drift, diagnose_nll, sample_of
from cgd_ray.evaluation.diagnostics.verdicts import teacher_report
from cgd_ray.reporting.page.diagnosis import EXPLAINED, INTERNALISED, diagnosis, files
from cgd_ray.reporting.page.page import as_json, refresh_report
from cgd_ray.reporting.page.payload import build_payload, stamp
from cgd_ray.training.examples.preparation import selected_parts
from tests.builders import tiny_model, tiny_records, write_selected
from tests.unit.evaluation.diagnostics.test_conditioned import examined
from tests.unit.evaluation.diagnostics.test_diagnose import config_of, score, write_graded
from tests.unit.reporting.page.made_run import DIAGNOSTICS, DRIFT_ADVISORY, LOSSES, MadeRun


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = MadeRun(tmp_path / "run", num_records=12)
    made.diagnosed()
    return made.directory


def found_of(run: RunDir) -> dict[str, Any]:
    found = diagnosis(run)
    assert found is not None
    return found


def test_a_run_that_was_not_diagnosed_has_nothing_to_show(tmp_path: Path) -> None:
    assert diagnosis(RunDir(tmp_path)) is None
    assert build_payload(RunDir(tmp_path))["runs"][0]["diagnosis"] is None


def test_each_context_has_the_losses_of_both_models(run: RunDir) -> None:
    contexts = found_of(run)["losses"]["contexts"]
    assert [context["given"] for context in contexts] == ["x", "x, y'", "x, y', c", "x, y', another problem's c"]
    for model, losses in LOSSES.items():
        assert tuple(context[model] for context in contexts) == losses


def test_a_difference_within_two_standard_errors_of_zero_shows_nothing(run: RunDir) -> None:
    rows = {row["what"]: row for row in found_of(run)["explained"]}
    assert rows[EXPLAINED["relevance"]]["base"]["shows"] is True
    assert rows[EXPLAINED["style"]]["base"]["shows"] is False
    assert list(rows) == [*EXPLAINED.values(), INTERNALISED]


def test_one_record_alone_shows_nothing(run: RunDir) -> None:
    nll = json.loads(json.dumps(DIAGNOSTICS["nll"]))
    nll["groups"]["all"]["internalised"]["standard_error"] = None
    write_json(run.diagnostics / "nll.json", nll)
    assert found_of(run)["explained"][-1]["trained"] == {"mean": 0.16, "standard_error": None, "shows": False}


def test_the_teacher_has_its_shares_by_k_and_what_was_not_asked_is_left_out(run: RunDir) -> None:
    teacher = found_of(run)["teacher"]
    assert teacher["k"] == [1, 2, 3]
    assert [row["values"] for row in teacher["solved"]] == [{"1": 0.97, "2": 0.99}, {"1": 0.9, "2": 0.95, "3": 0.97}]
    assert [share for _, share in teacher["judged"]] == [0.979, 0.987, 0.98, 0.01]


def test_accuracy_with_a_critique_stands_beside_that_without(run: RunDir) -> None:
    before, after = found_of(run)["conditioned"]["students"]
    assert (before["student"], before["alone"]["accuracy"], before["given_critique"]["accuracy"]) == ("base", 0.41, 0.63)
    assert (after["student"], after["difference"]) == ("trained", pytest.approx(0.08))


def test_an_advisory_names_its_benchmark(run: RunDir) -> None:
    assert found_of(run)["advisories"] == [{**DRIFT_ADVISORY, "title": "tinymath: Answers lose their box"}]


def test_the_page_is_made_anew_when_a_diagnosis_is(run: RunDir) -> None:
    stamps = {stamp(run)}
    for file in files(run):
        file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        stamps.add(stamp(run))
    assert len(stamps) == 5


def test_a_page_that_cannot_be_made_is_a_line(run: RunDir) -> None:
    (run.diagnostics / "nll.json").write_text("[]", encoding="utf-8")
    lines = list[str]()
    refresh_report(run, lines.append)
    (line,) = lines
    assert "nll.json holds list" in line
    assert f"`cgd report {run.root}` tries again" in line


def test_what_a_diagnosis_writes_is_what_the_page_reads(tmp_path: Path) -> None:
    config, run = config_of(tmp_path), RunDir(tmp_path / "run")
    write_selected(run.selected, tiny_records(6))
    verdicts = teacher_report(selected_parts(run.selected), max_problems=4, seed=0, grading_timeout_s=5.0)
    write_json(run.diagnostics / "verdicts.json", verdicts)
    config = config.model_copy(update={"diagnostics": DiagnosticsConfig(max_records=4)})
    chat = Chat.of(config.student)
    sample = sample_of(config, run, chat)
    diagnose_nll(config, run, sample, chat, lambda examples: None, score)
    assert found_of(run)["losses"]["models"] == ["base"]
    assert all(row["trained"] is None for row in found_of(run)["explained"])
    write_manifest(tiny_model(run.model, seed=1), "test", [run.model / "model.safetensors"], {})
    diagnose_nll(config, run, sample, chat, lambda examples: None, score)
    diagnose_answers(config, run, sample, examined(lambda row: "\\boxed{5}"))
    write_graded(run.evaluation("base") / "problems", ["It is \\boxed{5}."] * 20)
    write_graded(run.evaluation("trained") / "problems", ["It is 5."] * 20)
    write_json(run.diagnostics / "drift.json", diagnose_drift(run))
    found = found_of(run)
    assert [row["what"] for row in found["explained"]] == [*EXPLAINED.values(), INTERNALISED]
    assert found["explained"][-1]["trained"] == {"mean": 0.5, "standard_error": 0.0, "shows": True}
    assert [row["student"] for row in found["conditioned"]["students"]] == ["base", "trained"]
    assert found["teacher"]["critiques"] == verdicts["critiques"] == 6
    (drift,) = found["drift"]
    assert (drift["base"]["boxed"], drift["trained"]["boxed"]) == (1.0, 0.0)
    assert read_json(run.diagnostics / "drift.json") is not None
    as_json(found)
