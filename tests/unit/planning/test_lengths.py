"""Lengths are the tokenizer's where it is here, else guessed by characters; answers are measured where a run is named."""

from pathlib import Path

import pytest

from cgd_ray.planning.lengths import measured_or_assumed
from cgd_ray.planning.ranges import Range
from cgd_ray.planning.times.earlier import EarlierRun
from cgd_ray.planning.work import Work, example_lengths
from tests.unit.planning.made_plans import config_of


def test_what_nobody_has_measured_has_wide_bounds_and_says_so(tmp_path: Path) -> None:
    lengths = measured_or_assumed(config_of(tmp_path), ["What is 1 + 1?"] * 10, like=None)
    assert lengths.source.startswith("assumed")
    assert lengths.attempt.high > 3 * lengths.attempt.low
    assert lengths.question.low < lengths.question.likely < lengths.question.high


def test_an_answer_is_no_longer_than_its_limit(tmp_path: Path) -> None:
    lengths = measured_or_assumed(config_of(tmp_path, "student.sampling.max_tokens=100"), [], like=None)
    assert lengths.attempt == Range(100, 25, 100)  # and may be much shorter


def test_an_example_of_an_arm_holds_what_the_arm_shows(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    lengths = measured_or_assumed(config, [], like=None)
    cgd, targets = example_lengths(config.training, lengths)
    alone, _ = example_lengths(config.training.model_copy(update={"arm": "refined_only"}), lengths)
    difference = lengths.attempt.likely + lengths.critique.likely + lengths.revise_overhead
    assert cgd.likely - alone.likely == pytest.approx(difference)
    assert targets == lengths.refinement


def test_several_samples_share_their_prompt(tmp_path: Path) -> None:
    config = config_of(tmp_path, "generation.num_samples=4", "student.sampling.temperature=0.7")
    work = Work.of(config, 100, 0, measured_or_assumed(config, [], like=None))
    assert work.rows == 400
    assert work.student.cached.likely == pytest.approx(3 * work.student.prompt.likely)


def test_a_directory_without_a_run_tells_no_times(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run that has generated"):
        EarlierRun.read(tmp_path)
