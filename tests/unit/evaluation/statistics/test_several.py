"""Holm's correction: the worked values, its order, and its steps."""

import numpy as np
import pytest

from cgd_ray.evaluation.statistics.several import holm


def test_the_smallest_p_pays_for_all_and_the_largest_for_itself() -> None:
    corrected = holm({"sft": 0.04, "cft": 0.01, "refined_only": 0.03})
    assert list(corrected) == ["sft", "cft", "refined_only"]
    assert corrected["cft"].adjusted == pytest.approx(0.03)
    # 0.03 twice is more than 0.04 once, and a larger p never becomes the smaller one
    assert corrected["refined_only"].adjusted == pytest.approx(0.06)
    assert corrected["sft"].adjusted == pytest.approx(0.06)
    assert [name for name, comparison in corrected.items() if comparison.significant] == ["cft"]


def test_one_comparison_is_left_as_it_is_and_none_are_none() -> None:
    assert holm({"sft": 0.04})["sft"].adjusted == pytest.approx(0.04)
    assert holm({}) == {}


def test_what_is_no_p_value_is_refused() -> None:
    with pytest.raises(ValueError, match="the comparison 'sft' has the p-value nan"):
        holm({"sft": float("nan")})


def test_each_step_is_the_level_over_the_comparisons_that_are_left() -> None:
    p_values = np.random.default_rng(0).beta(0.3, 3.0, 6)
    corrected = holm(dict(zip("abcdef", p_values.tolist(), strict=True)))
    rejected = set()
    for left, (p_value, name) in zip(range(6, 0, -1), sorted(zip(p_values, "abcdef", strict=True)), strict=True):
        if p_value > 0.05 / left:
            break
        rejected.add(name)
    assert {name for name, comparison in corrected.items() if comparison.significant} == rejected
    assert 0 < len(rejected) < 6
    assert all((comparison.adjusted <= 0.05) == comparison.significant for comparison in corrected.values())
