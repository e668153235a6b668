"""The learning rate: a linear warm-up to the peak, then a cosine to the final share at the last step."""

import math
from typing import Any

import pytest

from cgd_ray.config import TrainingConfig
from cgd_ray.training.feed.schedule import learning_rate_at, learning_rate_by_share


def rates(num_steps: int, **training: Any) -> list[float]:
    settings = TrainingConfig(**{"learning_rate": 2.0, "warmup_fraction": 0.1, "final_learning_rate_fraction": 0.25, **training})
    return [learning_rate_at(step, num_steps, settings) for step in range(num_steps)]


def test_the_rate_rises_linearly_to_the_peak_and_the_first_step_is_not_wasted() -> None:
    assert rates(50)[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])


def test_the_rate_falls_along_a_cosine_to_its_final_share_at_the_last_step() -> None:
    after = rates(51, warmup_fraction=0.0)
    assert after == pytest.approx([0.5 + 1.5 * (1 + math.cos(math.pi * step / 50)) / 2 for step in range(51)])
    assert (after[0], after[25], after[-1]) == pytest.approx((2.0, 1.25, 0.5))
    assert rates(50)[-1] == pytest.approx(0.5)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.03, 0.5, 1.0])
def test_short_trainings_have_a_positive_rate_that_never_passes_the_peak(num_steps: int, warmup_fraction: float) -> None:
    assert all(0 < rate <= 2.0 for rate in rates(num_steps, warmup_fraction=warmup_fraction))


def test_a_warm_up_over_everything_ends_at_the_peak() -> None:
    assert rates(4, warmup_fraction=1.0) == pytest.approx([0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.5, 1.0])
def test_shares_in_the_place_of_steps_give_the_same_shape(warmup_fraction: float) -> None:
    num_steps = 1000
    by_step = rates(num_steps, warmup_fraction=warmup_fraction)
    settings = TrainingConfig(learning_rate=2.0, warmup_fraction=warmup_fraction, final_learning_rate_fraction=0.25)
    by_share = [learning_rate_by_share((step + 1) / num_steps, settings) for step in range(num_steps)]
    assert by_share == pytest.approx(by_step, rel=0.01)
    assert by_share[-1] == pytest.approx(2.0 if warmup_fraction == 1.0 else 0.5)


def test_steps_of_unequal_shares_have_the_rates_of_where_they_stand() -> None:
    settings = TrainingConfig(learning_rate=2.0, warmup_fraction=0.2, final_learning_rate_fraction=0.0)
    assert [learning_rate_by_share(share, settings) for share in (0.1, 0.2, 0.6, 1.0)] == pytest.approx([1.0, 2.0, 1.0, 0.0])
