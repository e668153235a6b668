"""A comparison goes from records to a table: each step once, whatever interrupts it, and on equal terms for all arms."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.comparison.compare import compare
from cgd_ray.config import TrainingConfig, load_config
from cgd_ray.data.rundir import RunDir, read_json
from cgd_ray.process.faults import RefusedError, StageFailedError
from tests.unit.comparison.standins import KilledError, Runs, make_comparison, read_result, write_evaluation

CELLS = ["sft-seed0-lr1e-6", "cgd-seed0-lr1e-6", "sft-seed1-lr1e-6", "cgd-seed1-lr1e-6"]
EACH_ONCE = ["generate records", "evaluate records", *(f"run {name}" for name in CELLS)]
SMALL: dict[str, Any] = {"seeds": [0], "arms": ["cgd"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Runs, list[str]]:
    """A comparison of two arms and two seeds, what ran for it, and what it said."""
    root, runs, said = tmp_path_factory.mktemp("finished"), Runs(), list[str]()
    compare(make_comparison(root), said.append, runner=runs.runner)
    return root, runs, said


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison with one cell."""
    root = tmp_path_factory.mktemp("small")
    compare(make_comparison(root, **SMALL), lambda line: None, runner=Runs().runner)
    return root


def again(small: Path, tmp_path: Path, *overrides: str, **settings: Any) -> Runs:
    """What runs when the small one is asked for once more, with other settings."""
    shutil.copytree(small / "run", tmp_path / "run", symlinks=True)
    runs = Runs()
    compare(make_comparison(tmp_path, *overrides, **{**SMALL, **settings}), lambda line: None, runner=runs.runner)
    return runs


def test_records_and_the_untrained_student_come_once_then_every_cell_and_the_table(finished: tuple[Path, Runs, list[str]]) -> None:
    root, runs, said = finished
    assert runs.finished == EACH_ONCE
    assert said[0].startswith("problems: 40 problems, 1 sample of each, 2 seeds: nothing under ")
    by_arm = {row["arm"]: row for row in read_result(root)["rows"]}
    assert {arm: row["accuracy"] for arm, row in by_arm.items()} == {"base": 16 / 40, "sft": 30.5 / 40, "cgd": 34.5 / 40}
    assert by_arm["sft"]["difference"] == pytest.approx(-4 / 40)
    assert by_arm["cgd"]["difference"] is None
    assert by_arm["base"]["is_different"]
    assert (root / "run" / "report.html").exists()


def test_every_arm_trains_on_the_same_records_which_all_of_them_can_use(finished: tuple[Path, Runs, list[str]]) -> None:
    for training in trainings(finished[0]):
        assert (training.usable_by, training.max_examples, training.max_target_tokens) == (("sft", "cgd"), 11, None)


def trainings(root: Path) -> list[TrainingConfig]:
    """What the cells train with."""
    return [load_config(file).training for file in sorted((root / "run" / "configs").glob("*-seed*.yaml"))]


def test_what_is_finished_is_shown_again_without_running_anything(finished: tuple[Path, Runs, list[str]]) -> None:
    root, _, said = finished
    runs, again = Runs(), list[str]()
    compare(make_comparison(root), again.append, runner=runs.runner)
    assert runs.num_started == 0
    assert again == [line for line in said if "trainings are finished" not in line]


def test_equal_steps_are_those_of_the_reference_on_the_same_examples(finished: tuple[Path, Runs, list[str]]) -> None:
    root, _, _ = finished
    counted = {counts["arm"]: counts for counts in (read_json(root / "run" / "budget.json") or {}).values()}
    assert counted["cgd"]["rows"] >= counted["sft"]["rows"], "its examples are longer"
    (budget,) = {(training.max_examples, training.steps_per_epoch) for training in trainings(root)}
    assert budget == (11, -(-counted["cgd"]["rows"] // TrainingConfig().global_batch_size))


def test_steps_are_no_more_than_the_shortest_arm_has_rows(tmp_path: Path) -> None:
    small_batch = {"training": {"global_batch_size": 1, "context_length": 256}}
    compare(make_comparison(tmp_path, seeds=[0], settings=small_batch), lambda line: None, runner=Runs().runner)
    counted = (read_json(tmp_path / "run" / "budget.json") or {}).values()
    assert {training.steps_per_epoch for training in trainings(tmp_path)} == {min(counts["rows"] for counts in counted)}


def test_equal_tokens_are_those_of_the_arm_that_has_the_fewest(tmp_path: Path) -> None:
    compare(make_comparison(tmp_path, seeds=[0], budget="tokens"), lambda line: None, runner=Runs().runner)
    counted = (read_json(tmp_path / "run" / "budget.json") or {}).values()
    assert {counts["examples"] for counts in counted} == {11}
    assert {training.max_target_tokens for training in trainings(tmp_path)} == {min(counts["target_tokens"] for counts in counted)}


@pytest.mark.parametrize("moment", [1, 4, 6])
def test_killed_at_any_moment_and_run_again_it_repeats_no_finished_run(moment: int, tmp_path: Path) -> None:
    runs = Runs(dies_at=moment)
    with pytest.raises(KilledError):
        compare(make_comparison(tmp_path, **SMALL), lambda line: None, runner=runs.runner)
    compare(make_comparison(tmp_path, **SMALL), lambda line: None, runner=Runs(finished=runs.finished).runner)
    cell = "run cgd-seed0-lr1e-6"
    assert set(runs.finished) == {"generate records", "evaluate records", cell}
    assert runs.finished.count(cell) == 1


def test_a_further_seed_runs_its_cells_alone(small: Path, tmp_path: Path) -> None:
    assert again(small, tmp_path, seeds=[0, 1]).finished == ["run cgd-seed1-lr1e-6"]


def test_a_run_that_fails_lets_the_others_finish_and_is_named_with_its_reason(tmp_path: Path) -> None:
    runs = Runs(fails={"sft-seed0-lr1e-6": "the disk is full"})
    with pytest.raises(StageFailedError, match=r"1 of 2 runs did not come to their end, sft-seed0-lr1e-6: the disk is full; mend that"):
        compare(make_comparison(tmp_path, seeds=[0]), lambda line: None, runner=runs.runner)
    assert runs.finished == ["generate records", "evaluate records", "run cgd-seed0-lr1e-6"]
    mended = Runs()
    compare(make_comparison(tmp_path, seeds=[0]), lambda line: None, runner=mended.runner)
    assert mended.finished == ["run sft-seed0-lr1e-6"]


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("settings.teacher.sampling.max_tokens=7", "config teacher.sampling.max_tokens was 1024 and is 7"),
        ("settings.evaluation.sampling.temperature=0.5", "config evaluation.sampling.temperature was 0.0 and is 0.5"),
        ("settings.evaluation.problems.limit=7", r"evaluation\.problems\.limit was 40 and is 7"),
        ("settings.prompts=null", "prompts solve was"),
    ],
)
def test_a_directory_of_other_models_decoding_problems_or_wording_is_refused_before_anything_runs(
    override: str, what: str, small: Path, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match=what):
        again(small, tmp_path, override)


def test_a_cell_that_holds_another_training_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailedError, match=r"cgd-seed0-lr1e-6 belongs to another config: .*max_examples was 12 and is None"):
        again(small, tmp_path, budget="tokens")


def test_a_cell_that_was_graded_otherwise_is_not_taken_for_finished(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small / "run", tmp_path / "run", symlinks=True)
    cell = RunDir(tmp_path / "run" / "cells" / "cgd-seed0-lr1e-6")
    shutil.rmtree(cell.evaluation("trained"))
    write_evaluation(cell, "trained", 40, grader="exact")
    mended = Runs()
    compare(make_comparison(tmp_path, **SMALL), lambda line: None, runner=mended.runner)
    assert mended.finished == ["run cgd-seed0-lr1e-6"]
    assert read_result(tmp_path)["rows"][1]["accuracy"] == 34 / 40
