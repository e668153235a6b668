"""Accuracy of graded answers, with an interval.

pass@k is the unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374); intervals are Wilson's.
"""

from collections.abc import Sequence
from math import comb, sqrt
from statistics import NormalDist, fmean


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that at least one of k samples is right, from n samples of which c are. Raises ValueError when n < k."""
    if num_samples < k:
        raise ValueError(f"pass@{k} needs at least {k} samples per problem, there are {num_samples}; raise evaluation.num_samples")
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def mean_pass_at_k(correct_by_problem: Sequence[Sequence[bool]], k: int) -> float:
    """Mean over problems of pass@k; each inner sequence holds one problem's samples."""
    return fmean(pass_at_k(len(samples), sum(samples), k) for samples in correct_by_problem)


def wilson_interval(mean: float, num_problems: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion over problems. With several samples per problem it is wider than need be, never narrower."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    shrink = 1 + z**2 / num_problems
    centre = (mean + z**2 / (2 * num_problems)) / shrink
    half = z * sqrt(mean * (1 - mean) / num_problems + z**2 / (4 * num_problems**2)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)
