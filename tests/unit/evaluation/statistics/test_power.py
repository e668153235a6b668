"""The least effect that a design can see is the one that simulated evaluations show in four of five cases."""

import numpy as np
import pytest
from scipy.special import ndtri

from cgd_ray.evaluation.statistics.power import Assumptions, Design, least_effect, least_effect_sentence, measured
from cgd_ray.evaluation.statistics.seeds import difference_over_seeds
from tests.unit.evaluation.statistics.worlds import Floats


def design(num_problems: int = 30, num_samples: int = 1, num_seeds: int = 3) -> Design:
    return Design(num_problems=num_problems, num_samples=num_samples, num_seeds=num_seeds)


def arms(plan: Design, assumed: Assumptions, effect: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """[S, P, N] answers of two arms as assumed: chances that differ by problem and by seed, around a half."""
    noise = np.sqrt(0.25 - assumed.flips / 2)  # chances that deviate so much from a half flip that often
    middle_P = 0.5 + noise * generator.choice([-1.0, 1.0], plan.num_problems)
    moved_P = effect + np.sqrt(assumed.discordance - assumed.flips) * generator.standard_normal(plan.num_problems)
    drawn = []
    for shift_P in (-moved_P / 2, moved_P / 2):
        luck_S1 = generator.normal(0, assumed.seed_deviation, (plan.num_seeds, 1))
        chances_SP = np.clip(middle_P + shift_P + luck_S1, 0, 1)
        drawn.append((generator.random((*chances_SP.shape, plan.num_samples)) < chances_SP[..., None]).astype(float))
    return drawn[0], drawn[1]


def share_seen(plan: Design, assumed: Assumptions, effect: float, num_sets: int) -> float:
    generator = np.random.default_rng(0)
    seen = 0
    for _ in range(num_sets):
        first, second = arms(plan, assumed, effect, generator)
        p_value = difference_over_seeds(first.mean(axis=2), second.mean(axis=2), plan.num_samples).p_value
        assert p_value is not None
        seen += p_value < 0.05
    return seen / num_sets


# chances stay between 0 and 1 with these, so that the arms differ by what they are made to
CALM = Assumptions(discordance=0.45, flips=0.42, seed_deviation=0.02)


def test_with_many_problems_it_is_that_of_the_normal_approximation() -> None:
    assumed = Assumptions(discordance=0.3, flips=0.2)
    expected = (ndtri(0.975) + ndtri(0.8)) * np.sqrt((0.1 + 0.2 / 4) / 10_000)
    assert least_effect(design(10_000, 4, 1), assumed) == pytest.approx(expected, rel=0.001)


def test_more_problems_samples_and_seeds_each_show_smaller_effects() -> None:
    least = least_effect(design())
    assert all(least_effect(more) < least for more in (design(num_problems=60), design(num_samples=4), design(num_seeds=5)))


def test_seeds_are_the_limit_that_more_problems_do_not_move() -> None:
    assumed = Assumptions(seed_deviation=0.05)
    assert least_effect(design(100_000, 16, 3), assumed) > 0.1


def test_every_design_has_a_least_effect() -> None:
    for num_problems in (2, 30, 500, 12_000):
        for num_seeds in (1, 2, 5):
            assert least_effect(design(num_problems, 1, num_seeds)) > 0


@pytest.mark.parametrize("plan", [design(30, 1, 3), design(200, 2, 5)])
def test_four_of_five_simulated_evaluations_show_it(plan: Design) -> None:
    assert 0.7 < share_seen(plan, CALM, least_effect(plan, CALM), 300) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("plan", [design(30, 1, 3), design(30, 4, 5), design(200, 2, 5), design(500, 1, 3), design(1319, 1, 5)])
def test_many_simulated_evaluations_show_it(plan: Design) -> None:
    assert 0.72 < share_seen(plan, CALM, least_effect(plan, CALM), 4000) < 0.86


def test_the_sentence_names_the_design_the_effect_and_what_is_assumed() -> None:
    told = least_effect_sentence(design())
    points = round(100 * least_effect(design()))
    assert told.startswith(f"30 problems, 1 sample of each, 3 seeds: nothing under {points} points shows")
    assert "seeds that deviate by 1.0 points" in told
    assert "not whether another training would show it" in least_effect_sentence(design(num_seeds=1))


def test_assumptions_are_measured_on_earlier_answers() -> None:
    assumed = Assumptions(discordance=0.45, flips=0.42, seed_deviation=0.05)
    found = measured(*arms(design(4000, 4, 40), assumed, 0.0, np.random.default_rng(1)))
    assert found.discordance == pytest.approx(0.45, abs=0.02)
    assert found.flips == pytest.approx(0.42, abs=0.02)
    assert found.seed_deviation == pytest.approx(0.05, abs=0.01)


def test_what_single_answers_cannot_tell_is_left_as_assumed() -> None:
    answers = np.random.default_rng(0).random((1, 50, 1)).round()
    found = measured(answers, 1 - answers)
    assert (found.discordance, found.flips, found.seed_deviation) == (1.0, Assumptions().flips, Assumptions().seed_deviation)
    assert measured(answers, answers).flips == 0.0


def test_impossible_designs_and_assumptions_are_refused() -> None:
    with pytest.raises(ValueError, match="num_seeds 0; it must be at least 1"):
        design(num_seeds=0)
    with pytest.raises(ValueError, match="1 problem; differences between problems need at least 2"):
        design(num_problems=1)
    with pytest.raises(ValueError, match=r"differ on 0\.1 of the problems and one arm from itself on 0\.2"):
        Assumptions(discordance=0.1, flips=0.2)
    with pytest.raises(ValueError, match="of the same problems"):
        measured(np.ones((1, 3, 1)), np.ones((1, 4, 1)))
