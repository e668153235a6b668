"""A band for the whole pass@k curve: with the confidence given, the true curve lies inside at every k at once.

Intervals of 95 % at each of sixteen k's hold together less often. How much higher each must aim follows from how alike the estimates at two
k's are: the multiplier bootstrap over problems (Montiel Olea and Plagborg-Møller 2019) draws the largest of their standardised errors. At
each k the interval of an accuracy is then taken at that confidence, which unlike a normal one keeps its width where every problem is
solved. As pass@k never falls with k, a bound at one k bounds its neighbours too, which narrows the band at no cost.
How to use: `band = pass_at_k_band(by_problem, [1, 2, 4, 8])`; `band[4].low`.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import ndtr

from cgd_ray.evaluation.statistics.intervals import Interval, mean_interval, refuse_impossible_confidence
from cgd_ray.evaluation.statistics.rates import ByProblem, Floats, pass_at_k_rows

KIND = "simultaneous over k, multiplier bootstrap over problems"
NUM_DRAWS = 20_000


def pass_at_k_band(by_problem: ByProblem, ks: Sequence[int], confidence: float = 0.95) -> dict[int, Interval]:
    """Intervals at each k that hold together. Raises ValueError for k's that do not rise, and for more draws than samples."""
    refuse_impossible_confidence(confidence)
    if not ks or any(later <= earlier for earlier, later in pairwise(ks)):
        raise ValueError(f"the k's of a pass@k curve are {list(ks)}; give at least one, each larger than the one before")
    rows_PK = pass_at_k_rows(by_problem, ks)
    num_answers = float(sum(len(samples) for samples in by_problem))
    each = _confidence_of_each(rows_PK, confidence)
    low_K, high_K = mean_interval(rows_PK.T, num_answers, each)
    low_K = np.maximum.accumulate(low_K)
    high_K = np.minimum.accumulate(high_K[::-1])[::-1]
    return {k: Interval(low=low, high=high, kind=KIND) for k, low, high in zip(ks, low_K.tolist(), high_K.tolist(), strict=True)}


def _confidence_of_each(rows_PK: Floats, confidence: float) -> float:
    """What the interval at each k must hold for all to hold together."""
    errors_PK = rows_PK - rows_PK.mean(axis=0)
    scale_K = np.sqrt((errors_PK**2).sum(axis=0))
    if not (varying := scale_K > 1e-12).any():
        return confidence
    standard_PK = errors_PK[:, varying] / scale_K[varying]
    # a sum over problems with normal multipliers is normal with just this correlation, so it is drawn as such
    draws_K = np.random.default_rng(0).multivariate_normal(
        np.zeros(standard_PK.shape[1]), standard_PK.T @ standard_PK, NUM_DRAWS, method="eigh"
    )
    largest = np.abs(draws_K).max(axis=1)
    return float(2.0 * ndtr(np.quantile(largest, confidence)) - 1.0)
