"""Two models on the same problems: published and exact values, what must be refused, oracles, and how often the interval holds."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from cgd_ray.evaluation.statistics.paired import PairedComparison, compare_paired, flipped_signs, tango_interval
from tests.unit.evaluation.statistics.coverage import paired_several_samples, paired_single_samples


def compare(first: list[list[bool]], second: list[list[bool]]) -> PairedComparison:
    names = "abcdefghijklmnopqrstuvwxyz"
    return compare_paired(dict(zip(names, first, strict=False)), dict(zip(names, second, strict=False)))


def from_cells(both: int, first_only: int, second_only: int, neither: int) -> PairedComparison:
    cells = [(True, True)] * both + [(True, False)] * first_only + [(False, True)] * second_only + [(False, False)] * neither
    first = {str(index): [cell[0]] for index, cell in enumerate(cells)}
    # the order of the problems does not matter
    return compare_paired(first, {str(index): [cells[index][1]] for index in reversed(range(len(cells)))})


def test_single_samples_have_tangos_interval_and_mcnemars_exact_test() -> None:
    # the airway data of Bentur et al. 2009, with the limits in Fagerland, Lydersen and Laake 2014
    compared = from_cells(1, 1, 7, 12)
    assert (compared.interval.low, compared.interval.high) == pytest.approx((0.026, 0.517), abs=5e-4)
    assert compared.p_value == pytest.approx(binomtest(1, 8).pvalue)
    assert (compared.first, compared.second, compared.difference) == pytest.approx((2 / 21, 8 / 21, 6 / 21))
    assert (compared.first_better, compared.second_better, compared.num_problems) == (1, 7, 21)


def test_who_comes_first_changes_the_sign_only() -> None:
    one, other = from_cells(10, 3, 9, 8), from_cells(10, 9, 3, 8)
    assert (one.interval.low, one.interval.high) == pytest.approx((-other.interval.high, -other.interval.low))
    assert one.p_value == pytest.approx(other.p_value)


def test_models_that_agree_everywhere_may_still_differ() -> None:
    z_squared = 1.959964**2
    same = from_cells(20, 0, 0, 10)
    assert same.interval.high == pytest.approx(z_squared / (30 + z_squared), abs=1e-5)
    assert same.p_value == 1.0
    several = compare([[True] * 4] * 20, [[True] * 4] * 20)
    assert several.interval.low < -0.03
    assert several.interval.high > 0.03
    assert several.p_value == 1.0


def test_one_that_is_better_everywhere_has_no_room_above() -> None:
    assert from_cells(0, 0, 30, 0).interval.high == 1.0
    assert from_cells(0, 30, 0, 0).interval.low == -1.0


def test_flipped_signs_count_all_flips() -> None:
    for steps in ([3, -1, 2, 2, 0, 4], [1, 1, 1], [2, -2], [5]):
        sums = [abs(sum(sign * step for sign, step in zip(signs, steps, strict=True))) for signs in product((-1, 1), repeat=len(steps))]
        assert flipped_signs(np.array(steps)) == pytest.approx(np.mean([total >= abs(sum(steps)) for total in sums]))


def test_flipped_single_answers_are_mcnemars_test() -> None:
    assert flipped_signs(np.array([1] * 13 + [-1] * 4 + [0] * 9)) == pytest.approx(from_cells(5, 4, 13, 4).p_value)


def test_flipped_signs_agree_with_scipy() -> None:
    steps = np.random.default_rng(0).integers(-3, 5, 60)
    drawn = permutation_test((steps,), np.sum, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1))
    assert flipped_signs(steps) == pytest.approx(drawn.pvalue, abs=0.004)


def test_several_samples_are_compared_problem_by_problem() -> None:
    first = [[True, False, False, False], [True, True, False, False], [False] * 4, [True] * 4] * 5
    second = [[True, True], [True, False], [True, False], [True, True]] * 5
    compared = compare(first, second)
    assert compared.difference == pytest.approx((0.75 + 0.0 + 0.5 + 0.0) / 4)
    assert (compared.first_better, compared.second_better) == (0, 10)
    assert compared.p_value == pytest.approx(2 / 2**10)
    assert compared.interval.low < compared.difference < compared.interval.high


def test_different_problems_are_refused() -> None:
    told = r"different problems \(2 and 3, 1 in common; only the first has 'b'\); evaluate both on the same ones"
    with pytest.raises(ValueError, match=told):
        compare_paired({"a": [True], "b": [True]}, {"a": [True], "c": [True], "d": [False]})
    with pytest.raises(ValueError, match="only the second has 'b'"):
        compare_paired({"a": [True]}, {"a": [True], "b": [True]})


def test_uneven_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="the second evaluation has 2 samples of problem 'a' and 1 of 'b'"):
        compare([[True], [True]], [[True, False], [True]])


def test_intervals_agree_with_evalstats() -> None:
    oracle = pytest.importorskip("evalstats.core.resampling")
    first, second = (np.array([True] * 20 + [False] * 20), np.array([True] * 12 + [False] * 8 + [True] * 13 + [False] * 7))
    low, high = tango_interval(np.array(8.0), np.array(13.0), 40, 0.95)
    expected = oracle.tango_scc_paired_ci(second, first, alpha=0.05, c=0.0)
    assert (float(low), float(high)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("num_problems", [30, 40, 200, 1319])
def test_differences_of_single_samples_are_covered(num_problems: int) -> None:
    covered = paired_single_samples(num_problems, 1000)
    assert 0.94 < covered.mean() < 0.97
    assert covered.min() > 0.91


def test_differences_of_several_samples_are_covered() -> None:
    covered = paired_several_samples(30, 4, 40)
    assert 0.92 < covered.mean() < 0.99
