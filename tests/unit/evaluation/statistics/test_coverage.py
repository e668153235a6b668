"""Every interval at every size of benchmark, over many made evaluations: 93 to 97 % of them hold the truth. Long."""

import pytest

from tests.unit.evaluation.statistics.coverage import INTERVALS, SIZES


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interval", INTERVALS)
def test_intervals_hold_the_truth_as_often_as_they_say(interval: str, size: int) -> None:
    assert 0.93 <= INTERVALS[interval](size).mean() <= 0.97
