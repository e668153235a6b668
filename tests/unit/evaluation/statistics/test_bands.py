"""The band of a pass@k curve: what it must never do, an oracle, and that all of the curve is inside often enough."""

import numpy as np
import pytest

from cgd_ray.evaluation.statistics.bands import pass_at_k_band
from cgd_ray.evaluation.statistics.intervals import accuracy_interval
from cgd_ray.evaluation.statistics.rates import mean_pass_at_k, pass_at_k_rows
from tests.unit.evaluation.statistics.coverage import bands

KS = [1, 2, 4, 8]


def drawn(num_problems: int) -> list[list[bool]]:
    generator = np.random.default_rng(4)
    answers: list[list[bool]] = (generator.random((num_problems, 8)) < generator.beta(0.5, 1.0, (num_problems, 1))).tolist()
    return answers


def test_the_band_holds_the_curve_and_never_falls() -> None:
    by_problem = drawn(40)
    band = pass_at_k_band(by_problem, KS)
    assert all(band[k].low < mean_pass_at_k(by_problem, k) < band[k].high for k in KS)
    assert all(band[few].low <= band[many].low and band[few].high <= band[many].high for few, many in [(1, 2), (2, 4), (4, 8)])


def test_at_one_k_the_band_is_the_interval_and_at_several_wider() -> None:
    by_problem = drawn(40)
    interval, alone = accuracy_interval(by_problem), pass_at_k_band(by_problem, [1])[1]
    assert (alone.low, alone.high) == pytest.approx((interval.low, interval.high), abs=0.003)
    assert pass_at_k_band(by_problem, KS)[1].low < interval.low


@pytest.mark.parametrize("right", [True, False])
def test_a_curve_without_spread_has_a_band_with_width(right: bool) -> None:
    band = pass_at_k_band([[right] * 8] * 30, KS)
    assert all(interval.high - interval.low > 0.05 for interval in band.values())


def test_the_same_answers_give_the_same_band() -> None:
    assert pass_at_k_band(drawn(30), KS) == pass_at_k_band(drawn(30), KS)


@pytest.mark.parametrize("ks", [[], [2, 1], [1, 1]])
def test_ks_that_do_not_rise_are_refused(ks: list[int]) -> None:
    with pytest.raises(ValueError, match="the k's of a pass@k curve are"):
        pass_at_k_band(drawn(3), ks)


def test_with_a_thousand_problems_it_is_the_band_of_passk_inference() -> None:
    oracle = pytest.importorskip("passk_inference.core")
    by_problem = drawn(1000)
    expected = oracle.simultaneous_band(pass_at_k_rows(by_problem, KS), bootstrap=20_000)
    band = pass_at_k_band(by_problem, KS)
    np.testing.assert_allclose([band[k].low for k in KS], expected["lower"], atol=0.003)
    np.testing.assert_allclose([band[k].high for k in KS], expected["upper"], atol=0.003)


@pytest.mark.slow
def test_whole_curves_are_covered() -> None:
    covered = bands(30, KS, 50)
    assert 0.92 < covered.mean() < 0.99
