"""What a mean over several trainings and several problems varies with: seeds, problems, and chance in the single answers.

Every seed's model answers every problem, as in a study in which every reader reads every case, and Hillis' analysis of those (2007) is
used: the mean squares of the table give the mean's variance, and Student's t has as many degrees of freedom as so few seeds allow.
How to use: `variance, degrees = uncertainty([Components.of(accuracy_SP)], problem_variance)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from cgd_ray.evaluation.statistics.rates import Floats


@dataclass(frozen=True, kw_only=True)
class Components:
    """Variances of one arm's mean over S seeds and P problems."""

    seeds: float
    """Of the seeds' means about the mean, chance included."""
    chance: float
    """Of what seed and problem do not explain: other samples, and problems that one training solves and another does not."""
    degrees: int
    """Degrees of freedom of the seeds."""

    @classmethod
    def of(cls, table_SP: Floats) -> "Components":
        """From at least two seeds."""
        num_seeds, num_problems = table_SP.shape
        assert num_seeds > 1, "the spread over seeds needs two"
        seed_means_S, problem_means_P = table_SP.mean(axis=1), table_SP.mean(axis=0)
        rest_SP = table_SP - seed_means_S[:, None] - problem_means_P + table_SP.mean()
        chance = float((rest_SP**2).sum()) / ((num_seeds - 1) * max(num_problems - 1, 1))
        return cls(seeds=float(seed_means_S.var(ddof=1)) / num_seeds, chance=chance / table_SP.size, degrees=num_seeds - 1)


def uncertainty(arms: Sequence[Components], problem_variance: float) -> tuple[float, float]:
    """(variance, degrees of freedom) of a mean over seeds and problems, or of a difference between two arms' means.

    `problem_variance` is what the spread over problems alone says; chance is in it as in the seeds' part, and counted once. Where few seeds
    happen to agree, the variance comes out under it, which t with few degrees of freedom makes up for on the whole. So that two seeds that
    agree leave an interval with a width, a quarter is always kept; to keep all of it would make intervals of 95 % hold 98 %.
    """
    of_seeds, chance = sum(arm.seeds for arm in arms), sum(arm.chance for arm in arms)
    variance = max(of_seeds + max(0.0, problem_variance - chance), problem_variance / 4.0)
    of_variance = sum(arm.seeds**2 / arm.degrees for arm in arms)
    return variance, variance**2 / of_variance if of_variance > 0.0 else np.inf


def t_quantile(degrees: float, confidence: float) -> float:
    """How many standard errors to either side hold the confidence."""
    return float(stdtrit(degrees, (1.0 + confidence) / 2.0))
