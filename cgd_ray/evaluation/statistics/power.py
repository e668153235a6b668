"""The least difference between two arms that a design can see, told before anything runs.

Seen means: a two-sided test at 5 % finds it in four of five repetitions. What is assumed is stated and can be measured on earlier
evaluations. The model behind it is that of components.py: the arms' chances of solving a problem differ from problem to problem, an answer
is right with its problem's chance, and a training's seed lifts or lowers all problems a little.
How to use: `least_effect_sentence(Design(num_problems=30, num_samples=1, num_seeds=3))`, better with `measured(first_SPN, second_SPN)`.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from statsmodels.stats.power import TTestPower

from cgd_ray.evaluation.statistics.components import Components, uncertainty
from cgd_ray.evaluation.statistics.rates import Floats


@dataclass(frozen=True, kw_only=True)
class Design:
    """What will be run for each of two arms."""

    num_problems: int
    num_samples: int
    """For each problem and each seed."""
    num_seeds: int
    """Trainings."""

    def __post_init__(self) -> None:
        for name in ("num_problems", "num_samples", "num_seeds"):
            if (number := getattr(self, name)) < 1:
                raise ValueError(f"the design has {name} {number}; it must be at least 1")
        if self.num_problems < 2:
            raise ValueError("the design has 1 problem; differences between problems need at least 2")


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What the answers are expected to be like, where nothing has been measured yet."""

    discordance: float = 0.25
    """Chance that of one answer by each arm to the same problem only one is right."""
    flips: float = 0.15
    """Chance that of two answers by the same arm to the same problem only one is right: at 30 problems a deviation of 5 points from run to
    run, the low end of what Hochlehnert et al. (2025, arXiv 2504.07086) found on AIME and AMC."""
    seed_deviation: float = 0.01
    """Standard deviation of a training's accuracy over seeds, on so many problems that no chance is left in it."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.flips <= self.discordance <= 1.0:
            raise ValueError(
                f"two arms are assumed to differ on {self.discordance} of the problems and one arm from itself on {self.flips}; "
                "both are shares, and the second is at most the first"
            )


def least_effect(design: Design, assumptions: Assumptions | None = None, level: float = 0.05, power: float = 0.8) -> float:
    """The least true difference of accuracies found at this level with this power; above 1 none is. With two seeds it takes more."""
    variance, degrees = _expected_uncertainty(design, assumptions or Assumptions())
    # a one-sample test of this size has as many degrees of freedom; that the wrong arm is found better is left out
    size = min(degrees, 1e6) + 1.0
    effect = TTestPower().solve_power(nobs=size, alpha=level / 2.0, power=power, alternative="larger")
    return float(effect) * sqrt(size * variance)


def least_effect_sentence(design: Design, assumptions: Assumptions | None = None) -> str:
    """One sentence for people, with what it assumes."""
    assumed = assumptions or Assumptions()
    points = 100 * least_effect(design, assumed)
    seeds = f"{design.num_seeds} seeds" if design.num_seeds > 1 else "1 seed"
    samples = f"{design.num_samples} samples" if design.num_samples > 1 else "1 sample"
    told = f"{design.num_problems} problems, {samples} of each, {seeds}: nothing under {points:.0f} points shows (5 %, power 80 %)"
    given = f"arms that differ on {100 * assumed.discordance:.0f} % of problems, from themselves on {100 * assumed.flips:.0f} %"
    if design.num_seeds == 1:
        return f"{told}, and not whether another training would show it; assumed: {given}"
    return f"{told}; assumed: {given}, seeds that deviate by {100 * assumed.seed_deviation:.1f} points"


def measured(first_SPN: Floats, second_SPN: Floats) -> Assumptions:
    """Assumptions from two earlier arms' graded answers, [seeds, problems, samples] of 0 and 1, on the same problems.

    With one answer of each problem, or with one seed, what cannot be told is left as assumed.
    """
    if first_SPN.ndim != 3 or second_SPN.ndim != 3 or first_SPN.shape[1] != second_SPN.shape[1]:
        raise ValueError(
            f"graded answers of the shapes {first_SPN.shape} and {second_SPN.shape}; give seeds, problems and samples, of the same problems"
        )
    arms = (first_SPN, second_SPN)
    first_P, second_P = (arm_SPN.mean(axis=(0, 2)) for arm_SPN in arms)
    discordance = float((first_P * (1 - second_P) + second_P * (1 - first_P)).mean())
    flips = [_flips(arm_SPN) for arm_SPN in arms if arm_SPN.shape[0] * arm_SPN.shape[2] > 1]
    deviations = [_seed_variance(arm_SPN.mean(axis=2)) for arm_SPN in arms if len(arm_SPN) > 1]
    assumed = Assumptions()
    return Assumptions(
        discordance=discordance,
        flips=min(discordance, float(np.mean(flips)) if flips else assumed.flips),
        seed_deviation=sqrt(float(np.mean(deviations))) if deviations else assumed.seed_deviation,
    )


def _expected_uncertainty(design: Design, assumed: Assumptions) -> tuple[float, float]:
    """(variance, degrees of freedom) that the analysis of such a design will find for the difference of the arms."""
    answers = design.num_samples * design.num_seeds
    between = assumed.discordance - assumed.flips
    counted = design.num_problems + 2.0
    # with the two problems that the analysis counts in
    problem_variance = (design.num_problems * (between + assumed.flips / answers) + 1.0 / answers) / counted**2
    # two arms' answers differ from their problems' chances, each by half the flips
    chance = assumed.flips / 2.0 / (answers * design.num_problems)
    if design.num_seeds == 1:
        return problem_variance, design.num_problems - 1.0
    seeds = assumed.seed_deviation**2 / design.num_seeds + chance
    arm = Components(seeds=seeds, chance=chance, degrees=design.num_seeds - 1)
    variance, degrees = uncertainty([arm, arm], problem_variance)
    return variance, min(degrees, design.num_problems - 1.0)


def _flips(arm_SPN: Floats) -> float:
    """The share of pairs of an arm's answers to one problem of which one is right."""
    answers = int(arm_SPN.shape[0] * arm_SPN.shape[2])
    rates_P = arm_SPN.mean(axis=(0, 2))
    return float((2.0 * rates_P * (1.0 - rates_P)).mean() * answers / (answers - 1))


def _seed_variance(accuracy_SP: Floats) -> float:
    """Of single trainings' means, without chance; 0 where chance explains all."""
    parts = Components.of(accuracy_SP)
    return max(0.0, parts.seeds - parts.chance) * len(accuracy_SP)
