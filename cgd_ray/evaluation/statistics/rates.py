"""Rates over graded answers: avg@k, pass@k and G-pass@k, each the mean over problems of an unbiased estimate for one problem.

A rate says how many samples it was made of, so a single greedy run is avg@1 and never looks like more. All three follow from how many
of a problem's n samples are right: drawing k of them without replacement is hypergeometric, so no draws are made.
How to use: `name, value = avg_at_k(by_problem)`; `mean_pass_at_k(by_problem, 8)`; `mean_g_pass_at_k(by_problem, 8, threshold=0.5)`.
"""

from collections.abc import Callable, Sequence
from math import ceil, comb
from statistics import fmean
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

ByProblem: TypeAlias = Sequence[Sequence[bool]]
"""For each problem, whether each of its samples is right."""

Floats: TypeAlias = NDArray[np.float64]
Rate = TypeVar("Rate")


def counts(by_problem: ByProblem) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[P] samples of each problem and [P] right ones among them. Raises ValueError where there is nothing to count."""
    if len(by_problem) == 0:
        raise ValueError("there are no graded problems; a rate needs at least one")
    samples_P = np.array([len(samples) for samples in by_problem])
    if (empty := np.flatnonzero(samples_P == 0)).size:
        raise ValueError(f"problem {empty[0]} has no graded samples, the others have up to {samples_P.max()}; a rate needs one of each")
    return samples_P, np.array([sum(map(bool, samples)) for samples in by_problem])


def avg_at_k(by_problem: ByProblem) -> tuple[str, float]:
    """The mean over problems of the share of right samples, and its name by the samples there are: avg@4, or avg@3..4 if they differ."""
    samples_P, right_P = counts(by_problem)
    fewest, most = int(samples_P.min()), int(samples_P.max())
    return f"avg@{most}" if fewest == most else f"avg@{fewest}..{most}", float((right_P / samples_P).mean())


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that at least one of k samples is right, from n samples of which c are (Chen et al. 2021, arXiv 2107.03374).

    1 - C(n-c, k) / C(n, k). Raises ValueError when n < k.
    """
    _refuse_more_draws_than_samples("pass", num_samples, k)
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def g_pass_at_k(num_samples: int, num_correct: int, k: int, threshold: float) -> float:
    """Chance that at least the share `threshold` of k samples is right (G-Pass@k of Liu et al. 2024, arXiv 2412.13147).

    At the threshold 1 all k must be right; towards 0 it becomes pass@k. Raises ValueError when n < k or the threshold is outside (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"G-pass@{k} has the threshold {threshold}; it must be above 0 and at most 1")
    _refuse_more_draws_than_samples("G-pass", num_samples, k)
    # 0.28 * 25 is 7.000000000000001 in floating point, and means 7
    needed = ceil(threshold * k - 1e-9)
    wrong = num_samples - num_correct
    ways = sum(comb(num_correct, right) * comb(wrong, k - right) for right in range(needed, min(num_correct, k) + 1))
    return ways / comb(num_samples, k)


def mean_pass_at_k(correct_by_problem: ByProblem, k: int) -> float:
    """Mean over problems of pass@k; each inner sequence holds one problem's samples."""
    return float(pass_at_k_rows(correct_by_problem, [k]).mean())


def mean_g_pass_at_k(by_problem: ByProblem, k: int, threshold: float) -> float:
    """Mean over problems of G-pass@k at a threshold."""
    samples_P, right_P = counts(by_problem)
    return fmean(_by_kind(samples_P, right_P, lambda n, c: g_pass_at_k(n, c, k, threshold)))


def pass_at_k_rows(by_problem: ByProblem, ks: Sequence[int]) -> Floats:
    """[P, K] pass@k of each problem at each k. Raises ValueError when a problem has fewer samples than the largest k."""
    samples_P, right_P = counts(by_problem)
    return np.array(_by_kind(samples_P, right_P, lambda n, c: [pass_at_k(n, c, k) for k in ks]))


def _by_kind(samples_P: NDArray[np.int64], right_P: NDArray[np.int64], rate: Callable[[int, int], Rate]) -> list[Rate]:
    """The rate of each problem, worked out once for each kind: a thousand problems of four samples are of five kinds."""
    kinds = list(zip(samples_P.tolist(), right_P.tolist(), strict=True))
    rates = {kind: rate(*kind) for kind in sorted(set(kinds))}
    return [rates[kind] for kind in kinds]


def _refuse_more_draws_than_samples(name: str, num_samples: int, k: int) -> None:
    if k < 1:
        raise ValueError(f"{name}@{k} is not a rate; k must be at least 1")
    if num_samples < k:
        raise ValueError(f"{name}@{k} needs at least {k} samples per problem, there are {num_samples}; raise evaluation.num_samples")
