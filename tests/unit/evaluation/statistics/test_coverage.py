"""Every interval at every size of benchmark, over many made evaluations: 93 to 97 % of them hold the truth. Long."""

from collections.abc import Callable

import pytest

from tests.unit.evaluation.statistics import coverage
from tests.unit.evaluation.statistics.worlds import Floats

INTERVALS: dict[str, Callable[[int], Floats]] = {
    "one sample": coverage.single_samples,
    "4 samples": lambda size: coverage.several_samples(size, 4, 1000),
    "16 samples": lambda size: coverage.several_samples(size, 16, 1000),
    "pass@k band": lambda size: coverage.bands(size, [1, 2, 4, 8, 16], 150),
    "paired, one sample": lambda size: coverage.paired_single_samples(size, 10_000),
    "paired, 4 samples": lambda size: coverage.paired_several_samples(size, 4, 200),
    "3 seeds, an arm": lambda size: coverage.seeds_of_an_arm(3, size, 1, 100),
    "5 seeds, an arm": lambda size: coverage.seeds_of_an_arm(5, size, 1, 100),
    "3 seeds, a difference": lambda size: coverage.seeds_of_a_difference(3, size, 1, 1000),
    "5 seeds, a difference": lambda size: coverage.seeds_of_a_difference(5, size, 1, 1000),
    "5 shared seeds, a difference": lambda size: coverage.seeds_of_a_difference(5, size, 1, 1000, shared=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", coverage.SIZES)
@pytest.mark.parametrize("interval", INTERVALS)
def test_intervals_hold_the_truth_as_often_as_they_say(interval: str, size: int) -> None:
    assert 0.93 <= INTERVALS[interval](size).mean() <= 0.97
