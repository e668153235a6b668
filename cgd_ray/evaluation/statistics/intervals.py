"""Intervals of an accuracy that hold for thirty problems as for a thousand, with nothing drawn by chance.

One sample per problem is a binomial count: the mid-P interval (Lancaster 1961) inverts the exact test with half the weight on what was
seen. Over all accuracies it covers 95 to 96 % where 95 % were asked for and never under 92 %. Clopper and Pearson's covers 97 % at thirty
problems, and Wilson's, Jeffreys' and the uniform prior's fall to 80 to 89 % where nearly all answers are right or nearly all are wrong.

Several samples of a problem hang together. As in surveys (Korn and Graubard 1998; Dean and Pagano 2015), the same interval is taken at the
number of independent answers that would leave the mean as uncertain as the spread over problems says it is. The bootstrap over problems
covers too little at thirty of them and has no width where all answers are right.

The problems count as a sample of those that might have been asked. What another training would give is in seeds.py.
How to use: `accuracy_interval(by_problem)`. Arrays may hold many means at once: `...` stands for their axes, P for problems.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize.elementwise import find_root
from scipy.special import betainc

from cgd_ray.evaluation.statistics.rates import ByProblem, Floats, counts

TOLERANCES = {"xatol": 1e-10}
"""Of bounds that are searched for."""
SINGLE = "mid-P over problems"
SEVERAL = "mid-P at the effective number of answers"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a number may lie, and how that was found."""

    low: float
    high: float
    kind: str
    """In words, for reports."""


def accuracy_interval(by_problem: ByProblem, confidence: float = 0.95) -> Interval:
    """Interval of the mean accuracy over problems. Raises ValueError for no problems, no samples or an impossible confidence."""
    refuse_impossible_confidence(confidence)
    samples_P, right_P = counts(by_problem)
    if samples_P.max() == 1:
        low, high = mid_p(np.array(right_P.mean()), np.array(float(len(right_P))), confidence)
        return Interval(low=float(low), high=float(high), kind=SINGLE)
    low, high = mean_interval(right_P / samples_P, float(samples_P.sum()), confidence)
    return Interval(low=float(low), high=float(high), kind=SEVERAL)


def mean_interval(rates: Floats, num_answers: float, confidence: float) -> tuple[Floats, Floats]:
    """[...] bounds of means over problems of rates [..., P] in [0, 1] that were made of so many answers together."""
    spread = Spread.of(rates)
    return mid_p(rates.mean(axis=-1), np.minimum(spread.answers(), num_answers), confidence)


def mid_p(shares: Floats, num_answers: Floats, confidence: float) -> tuple[Floats, Floats]:
    """[...] bounds of proportions, from shares [...] of numbers of answers [...] that need not be whole.

    The low bound is 0 where no answer is right, the high one 1 where all are.
    """
    tail = (1.0 - confidence) / 2.0
    low, high = _where(np.stack([shares, shares]), num_answers, np.stack([np.full_like(shares, tail), np.full_like(shares, 1.0 - tail)]))
    return np.where(shares > 0.0, low, 0.0), np.where(shares < 1.0, high, 1.0)


def refuse_impossible_confidence(confidence: float) -> None:
    """Raises ValueError unless it is a share between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"the confidence is {confidence}; it must lie between 0 and 1, as 0.95")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How uncertain means of rates over problems are.

    Half a problem that is all right and half a one that is all wrong are counted in, so that rates which happen to agree are not taken
    for certain: where every answer is right, there are as many independent answers as problems.
    """

    variance: Floats
    """[...] of the means."""
    answer_variance: Floats
    """[...] of a single answer about the mean."""

    @classmethod
    def of(cls, rates: Floats) -> "Spread":
        """From rates [..., P] in [0, 1]."""
        num_problems = rates.shape[-1]
        mean = (rates.sum(axis=-1) + 0.5) / (num_problems + 1.0)
        variance = ((rates**2).sum(axis=-1) + 0.5) / (num_problems + 1.0) - mean**2
        return cls(variance=variance / num_problems, answer_variance=mean * (1.0 - mean))

    def answers(self) -> Floats:
        """[...] the number of independent answers whose mean would be as uncertain."""
        return self.answer_variance / self.variance


def _where(shares: Floats, num_answers: Floats, levels: Floats) -> Floats:
    """The proportions at which the mid-P tails have these levels."""
    found = find_root(
        lambda p, share, number, level: _tail(p, share * number, number) - level,
        (0.0, 1.0),
        args=(shares, num_answers, levels),
        tolerances=TOLERANCES,
    )
    return np.asarray(found.x)


def _tail(p: Floats, num_right: Floats, num_answers: Floats) -> Floats:
    """Chance of more right answers than so many, and half the chance of just so many, at the proportion p; rises with p."""
    num_wrong = num_answers - num_right
    at_least = np.where(num_right > 0.0, betainc(np.maximum(num_right, 1e-12), num_wrong + 1.0, p), 1.0)
    more = np.where(num_wrong > 0.0, betainc(num_right + 1.0, np.maximum(num_wrong, 1e-12), p), 0.0)
    tail: Floats = (at_least + more) / 2.0
    return tail
