"""What checkpoints have answered is told once for each step, and the best of it is in the training's report."""

from pathlib import Path

from cgd_ray.config import TrainingConfig
from cgd_ray.training.observe.measurements import Measurement, add_measurement, read_measurements
from cgd_ray.training.observe.totals import training_totals

STEP = {
    "train/loss": 1.0,
    "train/tokens": 8,
    "train/target_tokens": 4,
    "train/world_size": 1,
    "time/step_s": 1.0,
    "time/data_s": 0.1,
    "memory/peak_gib": 1.0,
}


def report(answers: dict[int, Measurement]) -> dict[str, object]:
    return training_totals(TrainingConfig(), [{"train/step": 1, **STEP}], answers)


def test_lines_are_read_as_they_were_added_and_a_later_one_of_a_step_replaces_the_former(tmp_path: Path) -> None:
    path = tmp_path / "validation.jsonl"
    assert read_measurements(path) == {}
    for line in ({"step": 2, "pass@1": 0.25}, {"step": 4, "problem": "no memory"}, {"step": 4, "pass@1": 0.5}):
        add_measurement(path, line)
    assert read_measurements(path) == {2: {"step": 2, "pass@1": 0.25}, 4: {"step": 4, "pass@1": 0.5}}
    assert len(path.read_text().splitlines()) == 2


def test_the_report_tells_every_measured_step_and_the_newest_of_the_best() -> None:
    told = report({2: {"pass@1": 0.5}, 6: {"pass@1": 0.5}, 4: {"problem": "no memory"}, 8: {"pass@1": 0.25}})
    assert told["validation_pass@1"] == {2: 0.5, 6: 0.5, 8: 0.25}
    assert (told["best_validation_pass@1"], told["best_pass@1_step"]) == (0.5, 6)


def test_without_answers_the_report_has_nulls() -> None:
    told = report({})
    assert [told[name] for name in ("validation_pass@1", "best_validation_pass@1", "best_pass@1_step")] == [None] * 3
