"""Two models on the same problems: how far apart they are, how sure that is, and how many problems each answers better.

A difference taken problem by problem has lost what makes some problems hard for both, so it is known better than two intervals suggest.
- Single samples: Tango's score interval (1998), which beside Newcombe's and Bonett and Price's comes closest to the confidence asked for,
  and McNemar's exact test.
- Several samples: Bonett and Price's interval (2012) over the problems' differences, where the two problems it counts in, one better and
  one worse, differ by as much as chance can move a problem's means; and the exact test of flipped signs (Fisher 1935), of which McNemar's
  is the case of single samples.
How to use: `compared = compare_paired(base, trained)`, each from problem id to its samples; positive differences favour the second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize.elementwise import find_root
from scipy.special import ndtri
from statsmodels.stats.contingency_tables import mcnemar

from cgd_ray.evaluation.statistics.intervals import TOLERANCES, Interval, refuse_impossible_confidence
from cgd_ray.evaluation.statistics.rates import ByProblem, Floats, counts

ByProblemId = Mapping[str, Sequence[bool]]
"""From each problem's id to whether each of its samples is right."""


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """What two models' answers to the same problems say about their difference."""

    num_problems: int
    first: float
    """Mean accuracy."""
    second: float
    """Mean accuracy."""
    difference: float
    """Second minus first."""
    interval: Interval
    """Of the difference, over problems."""
    p_value: float
    """Two-sided, of the hypothesis that it does not matter which of the two answers."""
    test: str
    first_better: int
    """Problems of which the first has a larger share right."""
    second_better: int


def compare_paired(first: ByProblemId, second: ByProblemId, confidence: float = 0.95) -> PairedComparison:
    """Compare on the problems of both. Raises ValueError when the problems differ, or one model's samples per problem do."""
    refuse_impossible_confidence(confidence)
    _refuse_different_problems(first, second)
    samples_1, right_1_P = _even(first, "first")
    samples_2, right_2_P = _even(second, "second")
    # in whole steps, so that no rounding decides who is better
    steps = lcm(samples_1, samples_2)
    steps_P = right_2_P * (steps // samples_2) - right_1_P * (steps // samples_1)
    single = steps == 1
    return PairedComparison(
        num_problems=len(steps_P),
        first=float(right_1_P.mean() / samples_1),
        second=float(right_2_P.mean() / samples_2),
        difference=float(steps_P.mean() / steps),
        interval=_tango(steps_P, confidence) if single else _bonett_price(steps_P / steps, samples_1, samples_2, confidence),
        p_value=_mcnemar(steps_P) if single else flipped_signs(steps_P),
        test="McNemar, exact" if single else "flipped signs over problems, exact",
        first_better=int((steps_P < 0).sum()),
        second_better=int((steps_P > 0).sum()),
    )


def tango_interval(first_only: Floats, second_only: Floats, num_problems: int, confidence: float) -> tuple[Floats, Floats]:
    """[...] bounds of differences second - first, from the numbers [...] of problems that only one of them has right."""
    z = float(ndtri((1.0 + confidence) / 2.0))
    return -_tango_high(second_only, first_only, num_problems, z), _tango_high(first_only, second_only, num_problems, z)


def difference_variance(differences_P: Floats, answer_variance: float) -> tuple[float, float]:
    """(mean, its variance) of differences in [-1, 1], with two problems counted in, one each way, as far off as chance moves one.

    Without them five differences that happen to agree would be taken for certain.
    """
    counted = len(differences_P) + 2.0
    mean = float(differences_P.sum()) / counted
    return mean, float((((differences_P**2).sum() + 2.0 * answer_variance) / counted - mean**2) / counted)


def flipped_signs(steps_P: NDArray[np.int64]) -> float:
    """Two-sided p of a sum of whole differences, if each might as well have had the other sign.

    All flips are counted, none is drawn: the sum's distribution is the Fourier transform of its generating function.
    """
    sizes, numbers = np.unique(np.abs(steps_P[steps_P != 0]), return_counts=True)
    num_sums = int(sizes @ numbers) + 1
    turns = np.arange(num_sums)
    transform = np.ones(num_sums, dtype=complex)
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        transform *= ((1.0 + np.exp(2j * np.pi * (turns * size % num_sums) / num_sums)) / 2.0) ** number
    chances = np.fft.fft(transform).real / num_sums
    sums = 2 * turns - (num_sums - 1)
    p_value = float(chances[np.abs(sums) >= abs(int(steps_P.sum()))].sum())
    return min(1.0, max(p_value, 2.0 ** (1 - int(numbers.sum()))))


def _mcnemar(steps_P: NDArray[np.int64]) -> float:
    """Exact p from single answers; the cells where both agree do not enter."""
    table = [[0, int((steps_P < 0).sum())], [int((steps_P > 0).sum()), 0]]
    return float(mcnemar(table, exact=True).pvalue)


def _tango(steps_P: NDArray[np.int64], confidence: float) -> Interval:
    first_only, second_only = (np.array(float(better.sum())) for better in (steps_P < 0, steps_P > 0))
    low, high = tango_interval(first_only, second_only, len(steps_P), confidence)
    return Interval(low=float(low), high=float(high), kind="Tango's score interval over problems")


def _bonett_price(differences_P: Floats, samples_1: int, samples_2: int, confidence: float) -> Interval:
    mean, variance = difference_variance(differences_P, (1.0 / samples_1 + 1.0 / samples_2) / 4.0)
    half = float(ndtri((1.0 + confidence) / 2.0)) * sqrt(variance)
    return Interval(low=max(-1.0, mean - half), high=min(1.0, mean + half), kind="Bonett and Price's interval over problems")


def _tango_high(first_only: Floats, second_only: Floats, num_problems: int, z: float) -> Floats:
    """The largest difference that the score test does not reject."""

    def excess(difference: Floats, first_only: Floats, second_only: Floats) -> Floats:
        """The squared score above what is allowed, under the likeliest share of problems that only the first has right."""
        seen = second_only - first_only
        linear = -first_only - second_only + (2 * num_problems - seen) * difference
        constant = -first_only * difference * (1.0 - difference)
        share = (np.sqrt(np.maximum(linear**2 - 8 * num_problems * constant, 0.0)) - linear) / (4 * num_problems)
        variance = num_problems * (2.0 * share + difference * (1.0 - difference))
        result: Floats = (seen - num_problems * difference) ** 2 - z**2 * variance
        return result

    seen = (second_only - first_only) / num_problems
    # at what was seen the score is 0, and so may its variance be: begin beside it
    found = find_root(excess, (np.minimum(seen + 1e-9, 0.999_999), 1.0), args=(first_only, second_only), tolerances=TOLERANCES)
    return np.where(seen < 1.0, found.x, 1.0)


def _refuse_different_problems(first: ByProblemId, second: ByProblemId) -> None:
    only_first, only_second = sorted(first.keys() - second.keys()), sorted(second.keys() - first.keys())
    if only_first or only_second:
        which = f"only the first has {only_first[0]!r}" if only_first else f"only the second has {only_second[0]!r}"
        common = len(first) - len(only_first)
        raise ValueError(
            f"the evaluations are of different problems ({len(first)} and {len(second)}, {common} in common; {which}); "
            "evaluate both on the same ones"
        )


def _even(samples: ByProblemId, name: str) -> tuple[int, NDArray[np.int64]]:
    """The number of samples of every problem, and [P] the right ones, ordered by problem id."""
    ids = sorted(samples)
    by_problem: ByProblem = [samples[problem_id] for problem_id in ids]
    samples_P, right_P = counts(by_problem)
    if (odd := np.flatnonzero(samples_P != samples_P[0])).size:
        raise ValueError(
            f"the {name} evaluation has {samples_P[0]} samples of problem {ids[0]!r} and {samples_P[odd[0]]} of {ids[odd[0]]!r}; "
            "a paired comparison needs equally many of each"
        )
    return int(samples_P[0]), right_P
