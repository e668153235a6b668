"""pass@k and G-pass@k are what counting all draws of k samples gives; a rate says of how many samples it is."""

from itertools import combinations
from math import ceil
from statistics import fmean

import numpy as np
import pytest

from cgd_ray.evaluation.statistics.rates import avg_at_k, g_pass_at_k, mean_g_pass_at_k, mean_pass_at_k, pass_at_k, pass_at_k_rows


@pytest.mark.parametrize("num_samples", range(1, 8))
def test_pass_at_k_is_the_share_of_draws_with_a_right_sample(num_samples: int) -> None:
    for num_correct in range(num_samples + 1):
        samples = [index < num_correct for index in range(num_samples)]
        for k in range(1, num_samples + 1):
            expected = fmean(any(draw) for draw in combinations(samples, k))
            assert pass_at_k(num_samples, num_correct, k) == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.1, 0.28, 0.5, 0.75, 1.0])
def test_g_pass_at_k_is_the_share_of_draws_with_enough_right_samples(threshold: float) -> None:
    for num_correct in range(7):
        samples = [index < num_correct for index in range(6)]
        for k in range(1, 7):
            expected = fmean(sum(draw) >= ceil(round(threshold * k, 9)) for draw in combinations(samples, k))
            assert g_pass_at_k(6, num_correct, k, threshold) == pytest.approx(expected)


def test_g_pass_goes_from_pass_at_k_to_all_k_right() -> None:
    assert g_pass_at_k(16, 3, 8, 1e-6) == pytest.approx(pass_at_k(16, 3, 8))
    assert g_pass_at_k(4, 3, 2, 1.0) == pytest.approx(1 / 2)
    # 0.28 of 25 is seven, though not in floating point
    assert g_pass_at_k(25, 7, 25, 0.28) == 1.0
    assert mean_g_pass_at_k([[True] * 3 + [False], [False] * 4], 2, 1.0) == pytest.approx(1 / 4)


def test_more_draws_than_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pass@3 needs at least 3 samples per problem, there are 2; raise evaluation\.num_samples"):
        pass_at_k(2, 1, 3)
    with pytest.raises(ValueError, match=r"^pass@2 needs at least 2"):
        mean_pass_at_k([[True, False], [True]], 2)
    with pytest.raises(ValueError, match="G-pass@2 needs at least 2"):
        mean_g_pass_at_k([[True, False], [True]], 2, 0.5)


@pytest.mark.parametrize(("k", "threshold", "told"), [(0, 0.5, "k must be at least 1"), (2, 0.0, "above 0"), (2, 1.5, "at most 1")])
def test_what_is_no_rate_is_refused(k: int, threshold: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        g_pass_at_k(4, 2, k, threshold)


def test_nothing_graded_is_refused() -> None:
    with pytest.raises(ValueError, match="no graded problems"):
        avg_at_k([])
    with pytest.raises(ValueError, match="problem 1 has no graded samples, the others have up to 2"):
        mean_pass_at_k([[True, False], []], 1)


def test_the_mean_is_over_problems_however_many_samples_each_has() -> None:
    assert mean_pass_at_k([[True, False, False, False], [True]], 1) == pytest.approx((0.25 + 1.0) / 2)
    assert mean_pass_at_k([[True, False], [False, False]], 2) == pytest.approx(0.5)


def test_an_average_is_named_by_the_samples_there_are() -> None:
    assert avg_at_k([[True], [False]]) == ("avg@1", 0.5)
    assert avg_at_k([[True, False, False, False]] * 3) == ("avg@4", 0.25)
    assert avg_at_k([[True, False], [True, True, True]]) == ("avg@2..3", 0.75)


def test_rows_are_of_each_problem_at_each_k() -> None:
    rows = pass_at_k_rows([[True, False, False, False], [False] * 4, [True] * 4], [1, 2, 4])
    np.testing.assert_allclose(rows, [[0.25, 0.5, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])


def test_rates_agree_with_passk_inference() -> None:
    oracle = pytest.importorskip("passk_inference")
    right = np.random.default_rng(0).integers(0, 17, 50)
    by_problem = [[index < number for index in range(16)] for number in right]
    for k in (1, 3, 16):
        assert mean_pass_at_k(by_problem, k) == pytest.approx(oracle.pass_at_k(right, 16, k).mean())
