"""pass@k is what counting all draws of k samples gives; intervals are Wilson's."""

from itertools import combinations
from statistics import fmean

import pytest

from cgd_ray.evaluation.metrics import mean_pass_at_k, pass_at_k, wilson_interval


@pytest.mark.parametrize("num_samples", range(1, 8))
def test_pass_at_k_is_the_share_of_draws_with_a_right_sample(num_samples: int) -> None:
    for num_correct in range(num_samples + 1):
        samples = [index < num_correct for index in range(num_samples)]
        for k in range(1, num_samples + 1):
            expected = fmean(any(draw) for draw in combinations(samples, k))
            assert pass_at_k(num_samples, num_correct, k) == pytest.approx(expected)


def test_more_draws_than_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pass@3 needs at least 3 samples per problem, there are 2; raise evaluation\.num_samples"):
        pass_at_k(2, 1, 3)
    with pytest.raises(ValueError, match="pass@2 needs at least 2"):
        mean_pass_at_k([[True, False], [True]], 2)


def test_the_mean_is_over_problems_however_many_samples_each_has() -> None:
    assert mean_pass_at_k([[True, False, False, False], [True]], 1) == pytest.approx((0.25 + 1.0) / 2)
    assert mean_pass_at_k([[True, False], [False, False]], 2) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("num_correct", "num_problems", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718), (20, 20, 0.8389, 1.0)],
)
def test_intervals_are_those_of_newcombe_1998(num_correct: int, num_problems: int, low: float, high: float) -> None:
    interval = wilson_interval(num_correct / num_problems, num_problems)
    assert interval == pytest.approx((low, high), abs=5e-5)
    assert 0.0 <= min(interval) <= max(interval) <= 1.0


def test_more_confidence_and_fewer_problems_make_wider_intervals() -> None:
    def width(num_problems: int, confidence: float) -> float:
        low, high = wilson_interval(0.3, num_problems, confidence)
        return high - low

    assert width(100, 0.99) > width(100, 0.95) > width(1000, 0.95)
