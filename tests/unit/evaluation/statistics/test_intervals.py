"""Intervals of an accuracy: closed forms, what they must never do, an oracle, and how often they hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, bootstrap

from cgd_ray.evaluation.statistics.intervals import SEVERAL, SINGLE, accuracy_interval, mean_interval
from tests.unit.evaluation.statistics.coverage import several_samples, single_samples


def singles(num_right: int, num_problems: int) -> list[list[bool]]:
    return [[problem < num_right] for problem in range(num_problems)]


@pytest.mark.parametrize(("num_right", "num_problems"), [(1, 29), (15, 30), (39, 40), (1128, 1319)])
def test_single_samples_have_the_interval_of_the_exact_test_with_half_weight(num_right: int, num_problems: int) -> None:
    def tail(accuracy: float) -> float:
        return float(binom.sf(num_right, num_problems, accuracy) + binom.pmf(num_right, num_problems, accuracy) / 2)

    interval = accuracy_interval(singles(num_right, num_problems))
    assert interval.kind == SINGLE
    assert interval.low == pytest.approx(brentq(lambda p: tail(p) - 0.025, 0, 1), abs=1e-8)
    assert interval.high == pytest.approx(brentq(lambda p: tail(p) - 0.975, 0, 1), abs=1e-8)


def test_all_right_and_all_wrong_have_a_width() -> None:
    # half of (1 - p)^30 is 2.5 %
    assert accuracy_interval(singles(0, 30)).high == pytest.approx(1 - 0.05 ** (1 / 30))
    assert accuracy_interval(singles(30, 30)).low == pytest.approx(0.05 ** (1 / 30))
    # that all samples of a problem agree may mean that they always do: thirty answers, not 120
    assert accuracy_interval([[True] * 4] * 30).low == pytest.approx(0.05 ** (1 / 30))
    assert accuracy_interval([[False] * 4] * 30).low == 0.0


def test_samples_that_repeat_the_first_tell_nothing_new() -> None:
    once = accuracy_interval(singles(12, 40))
    copied = accuracy_interval([samples * 8 for samples in singles(12, 40)])
    assert copied.kind == SEVERAL
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=0.01)


def test_samples_that_differ_narrow_it_down_to_that_of_independent_answers() -> None:
    split = accuracy_interval([[True, True, False, False]] * 40)
    assert (split.low, split.high) == pytest.approx((0.42, 0.58), abs=0.01)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=12), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_holds_the_mean_and_is_its_own_mirror_image(by_problem: list[list[bool]], confidence: float) -> None:
    mean = np.mean([np.mean(samples) for samples in by_problem])
    interval = accuracy_interval(by_problem, confidence)
    mirrored = accuracy_interval([[not right for right in samples] for samples in by_problem], confidence)
    assert 0.0 <= interval.low <= mean <= interval.high <= 1.0
    assert interval.low < interval.high
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((interval.low, interval.high), abs=1e-7)


def test_more_confidence_and_fewer_problems_make_wider_intervals() -> None:
    def width(num_problems: int, confidence: float) -> float:
        interval = accuracy_interval(singles(num_problems * 3 // 10, num_problems), confidence)
        return interval.high - interval.low

    assert width(100, 0.99) > width(100, 0.95) > width(1000, 0.95)


def test_with_a_thousand_problems_it_is_the_bootstrap_over_problems() -> None:
    generator = np.random.default_rng(0)
    rates = generator.binomial(4, generator.beta(1.0, 0.5, 1000)) / 4
    drawn = bootstrap((rates,), np.mean, n_resamples=2000, batch=200, rng=generator, method="BCa").confidence_interval
    low, high = mean_interval(rates, 4000, 0.95)
    assert (float(low), float(high)) == pytest.approx((drawn.low, drawn.high), abs=0.002)


def test_an_impossible_confidence_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the confidence is 95; it must lie between 0 and 1, as 0\.95"):
        accuracy_interval(singles(3, 9), 95)


@pytest.mark.parametrize("num_problems", [30, 40, 200])
def test_single_samples_are_covered(num_problems: int) -> None:
    covered = single_samples(num_problems)
    assert 0.95 <= covered.mean() <= 0.96
    assert covered.min() > 0.92


@pytest.mark.parametrize(("num_problems", "num_samples"), [(30, 4), (30, 16)])
def test_several_samples_are_covered(num_problems: int, num_samples: int) -> None:
    covered = several_samples(num_problems, num_samples, 400)
    assert 0.94 < covered.mean() < 0.975
    assert covered.min() > 0.91
