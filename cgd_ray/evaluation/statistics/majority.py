"""maj@k: how often the most frequent of k answers to a problem is right (self-consistency, Wang et al. 2022, arXiv 2203.11171).

The mean over all draws of k of the n samples, counted and not drawn, so it does not hang on the order of the samples. The rules:
- all right answers are one answer, however they are written, since each equals the reference; wrong ones are told apart by their text;
- a sample from which no answer could be taken has no vote, and where nobody votes the problem is wrong;
- between answers with equally many votes a fair coin decides, of which the chance is counted.
How to use: `mean_maj_at_k([[Vote("12", True), Vote("13", False), Vote(None, False)], ...], 3)`.
"""

from collections import Counter
from collections.abc import Sequence
from math import comb
from statistics import fmean
from typing import NamedTuple

import numpy as np

from cgd_ray.evaluation.statistics.rates import Floats


class Vote(NamedTuple):
    """One sample's answer."""

    answer: str | None
    """What was taken for the final answer; None if nothing could be."""
    correct: bool


def mean_maj_at_k(votes_by_problem: Sequence[Sequence[Vote]], k: int) -> float:
    """Mean over problems of maj@k. Raises ValueError for no problems and for a problem with fewer than k samples."""
    if not votes_by_problem:
        raise ValueError("there are no graded problems; a rate needs at least one")
    return fmean(maj_at_k(votes, k) for votes in votes_by_problem)


def maj_at_k(votes: Sequence[Vote], k: int) -> float:
    """Chance that the majority of k of these samples, drawn without replacement, is right. Raises ValueError where there are fewer."""
    if not 1 <= k <= len(votes):
        raise ValueError(f"maj@{k} needs k from 1 to the {len(votes)} samples of the problem; lower k or raise evaluation.num_samples")
    right = sum(vote.correct for vote in votes)
    wrong = Counter(vote.answer for vote in votes if not vote.correct and vote.answer is not None)
    silent = len(votes) - right - wrong.total()
    sizes = sorted(wrong.values())
    won = sum(comb(right, ahead) * _ways_to_win(ahead, k - ahead, sizes, silent) for ahead in range(1, min(right, k) + 1))
    return won / comb(len(votes), k)


def _ways_to_win(ahead: int, others: int, sizes: list[int], silent: int) -> float:
    """Draws of `others` samples that are not right after which `ahead` right ones win; where j wrong answers tie with them, 1 / (j + 1)."""
    draws = _draws(ahead, others, sizes)
    from_silent = np.array([float(comb(silent, others - drawn)) for drawn in range(others + 1)])
    chances = 1.0 / np.arange(1, draws.shape[1] + 1)
    return float(from_silent @ draws @ chances)


def _draws(ahead: int, others: int, sizes: list[int]) -> Floats:
    """[drawn, tied] ways to draw so many wrong answers, none of which gets more than `ahead` votes, so that so many get as many."""
    ways = np.zeros((others + 1, others // ahead + 1))
    ways[0, 0] = 1.0
    for size in sizes:
        grown = np.zeros_like(ways)
        for votes in range(min(size, ahead, others) + 1):
            tied = int(votes == ahead)
            grown[votes:, tied:] += comb(size, votes) * ways[: others + 1 - votes, : ways.shape[1] - tied]
        ways = grown
    return ways
