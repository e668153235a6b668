"""Seeds and problems kept apart: closed forms, what one seed cannot tell, the bootstrap for many seeds, and how often intervals hold."""

import numpy as np
import pytest

from cgd_ray.evaluation.statistics.components import Components, uncertainty
from cgd_ray.evaluation.statistics.intervals import accuracy_interval
from cgd_ray.evaluation.statistics.seeds import arm_over_seeds, difference_over_seeds, difference_with_shared_seeds
from tests.unit.evaluation.statistics.coverage import seeds_of_a_difference, seeds_of_an_arm
from tests.unit.evaluation.statistics.worlds import Floats, World


def drawn(num_seeds: int, num_problems: int, *, seeds: float = 0.3, gain: float = 0.0, draw: int = 0) -> Floats:
    """[S, P] single answers; the same problems in every draw."""
    world = World(middle=0.5, problems=1.5, single=0.5, seeds=seeds)
    difficulties_P = world.difficulties(np.random.default_rng(9), num_problems)
    return world.seed_rates(np.random.default_rng(draw), difficulties_P, num_seeds, 1, gain)


def test_mean_squares_are_those_of_a_two_way_table() -> None:
    table_SP = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    parts = Components.of(table_SP)
    # the seeds' means are 2/3 and 1/3; left over are +-1/6, +-1/6 and -+1/3
    assert parts.seeds == pytest.approx((1 / 6) ** 2 * 2 / 2)
    assert parts.chance == pytest.approx((4 / 36 + 2 / 9) / 2 / 6)
    assert parts.degrees == 1


def test_chance_is_counted_once() -> None:
    arm = Components(seeds=0.5, chance=0.2, degrees=4)
    assert uncertainty([arm], 0.7) == pytest.approx((1.0, 1.0 / (0.25 / 4)))
    # problems that vary by chance alone add nothing
    assert uncertainty([arm], 0.1)[0] == pytest.approx(0.5)
    # seeds that happen to agree leave a quarter
    assert uncertainty([Components(seeds=0.0, chance=0.2, degrees=1)], 0.1) == pytest.approx((0.025, np.inf))
    assert uncertainty([], 0.7) == pytest.approx((0.7, np.inf))


def test_variances_are_those_of_the_hierarchical_bootstrap_when_seeds_are_many() -> None:
    table_SP = drawn(60, 150)
    generator = np.random.default_rng(1)
    means = [
        table_SP[np.ix_(generator.integers(0, 60, 60), generator.integers(0, 150, 150))].mean()  # both are drawn again, each on its own
        for _ in range(2000)
    ]
    variance, _ = uncertainty([Components.of(table_SP)], float(table_SP.mean(axis=0).var(ddof=1)) / 150)
    assert np.sqrt(variance) == pytest.approx(np.std(means), rel=0.06)


def test_an_arm_tells_its_seeds_apart_from_its_problems() -> None:
    arm = arm_over_seeds(drawn(5, 1000))
    assert arm.over_both is not None
    assert arm.seed_deviation == pytest.approx(np.std(arm.seed_means, ddof=1))
    assert arm.over_both.low < arm.over_problems.low < arm.mean < arm.over_problems.high < arm.over_both.high
    assert arm.sentence().startswith(f"{100 * arm.mean:.1f} [")
    assert "over 1000 problems and 5 seeds, which deviate by" in arm.sentence()


def test_with_one_seed_the_interval_is_that_of_its_problems_and_the_rest_is_unknown() -> None:
    table_SP = drawn(1, 40)
    arm, expected = arm_over_seeds(table_SP), accuracy_interval([[bool(right)] for right in table_SP[0]])
    assert (arm.over_problems.low, arm.over_problems.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert (arm.over_both, arm.seed_deviation) == (None, None)
    assert "1 seed: what another training would give is unknown" in arm.sentence()
    difference = difference_over_seeds(table_SP, drawn(3, 40))
    assert (difference.over_both, difference.p_value, difference.num_seeds) == (None, None, (1, 3))
    assert "1 seed" in difference.sentence()


def test_two_seeds_that_happen_to_agree_leave_an_interval_with_width() -> None:
    flipped_SP = np.array([[1.0, 0.0] * 15, [0.0, 1.0] * 15])
    arm, difference = arm_over_seeds(flipped_SP), difference_over_seeds(flipped_SP, flipped_SP[::-1])
    assert arm.over_both is not None
    assert arm.over_both.high - arm.over_both.low > 0.1
    assert difference.over_both is not None
    assert difference.over_both.high - difference.over_both.low > 0.02


def test_one_problem_leaves_nearly_everything_open() -> None:
    arm, difference = arm_over_seeds(np.ones((1, 1))), difference_over_seeds(np.zeros((1, 1)), np.ones((1, 1)))
    assert (arm.over_problems.low, arm.over_problems.high) == pytest.approx((0.05, 1.0))
    assert difference.over_problems.high - difference.over_problems.low > 1.0


def test_all_right_under_every_seed_has_a_width() -> None:
    arm, difference = arm_over_seeds(np.ones((3, 30))), difference_over_seeds(np.ones((3, 30)), np.ones((3, 30)))
    assert arm.over_both is not None
    assert arm.over_both.low == pytest.approx(0.05 ** (1 / 30), abs=1e-6)
    assert difference.over_both is not None
    assert difference.over_both.low < 0 < difference.over_both.high
    assert difference.p_value == 1.0


def test_seeds_that_disagree_hide_a_difference_that_the_problems_show() -> None:
    chances_P = np.linspace(0.3, 0.7, 1319)
    generator = np.random.default_rng(0)
    first_SP, second_SP = (
        generator.binomial(1, chances_P + np.array(luck)[:, None]).astype(float) for luck in ([-0.1, 0.0, 0.1], [0.15, 0.05, -0.05])
    )
    difference = difference_over_seeds(first_SP, second_SP)
    assert difference.over_problems.low > 0
    assert difference.over_both is not None
    assert difference.over_both.low < 0
    assert difference.p_value is not None
    assert difference.p_value > 0.05


def test_what_arms_share_by_seed_cancels() -> None:
    luck_S1 = np.array([[0.2], [-0.1], [0.0], [0.1]])
    rates_P = np.linspace(0.3, 0.7, 50)
    generator = np.random.default_rng(0)
    first_SP, second_SP = (rates_P + luck_S1 + gain + generator.normal(0, 0.02, (4, 50)) for gain in (0.0, 0.05))
    own, shared = difference_over_seeds(first_SP, second_SP, 16), difference_with_shared_seeds(first_SP, second_SP, 16)
    assert own.difference == pytest.approx(shared.difference)
    assert own.p_value is not None
    assert shared.p_value is not None
    assert shared.p_value < 0.01 < 0.3 < own.p_value


def test_a_model_without_training_has_its_row_twice() -> None:
    base_P, trained_SP = drawn(1, 200), drawn(5, 200, gain=1.0, draw=3)
    difference = difference_over_seeds(np.repeat(base_P, 2, axis=0), trained_SP)
    assert difference.p_value is not None
    assert difference.p_value < 0.05


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"have the shape \(30,\); give one row for each seed"):
        arm_over_seeds(np.ones(30))
    with pytest.raises(ValueError, match="the arms answered 30 and 40 problems"):
        difference_over_seeds(np.ones((3, 30)), np.ones((3, 40)))
    with pytest.raises(ValueError, match="share seeds, but have 3 and 5"):
        difference_with_shared_seeds(np.ones((3, 30)), np.ones((5, 30)))


def test_differences_over_seeds_are_covered() -> None:
    covered = seeds_of_a_difference(3, 30, 1, 20)
    assert 0.92 < covered.mean() < 0.99


@pytest.mark.slow
def test_arms_over_seeds_are_covered() -> None:
    covered = seeds_of_an_arm(3, 30, 1, 50)
    assert 0.93 < covered.mean() < 0.985
