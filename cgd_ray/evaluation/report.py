"""What is told of a model's graded answers to one paper: report.json, and what an aggregate of it is made of.

How to use: `tally = Tally(paper)`; `tally.add(answers, verdicts)` part by part, in the order of the rows; `tally.report()`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, TypeVar

import pyarrow as pa

from cgd_ray.evaluation.papers import Paper
from cgd_ray.evaluation.statistics.bands import pass_at_k_band
from cgd_ray.evaluation.statistics.intervals import accuracy_interval
from cgd_ray.evaluation.statistics.majority import Vote, mean_maj_at_k
from cgd_ray.evaluation.statistics.rates import avg_at_k, mean_g_pass_at_k, mean_pass_at_k
from cgd_ray.grading.extraction import is_boxed
from cgd_ray.grading.verdict import Answer, Kind, Verdict

MOST_REASONS = 20
"""Kinds of reasons for verdicts that a report counts."""
THRESHOLDS = (0.5, 1.0)
"""Of G-pass@k: half of k answers right, and all of them."""

Report = dict[str, Any]
Value = TypeVar("Value")


class Tally:
    """Counts of graded answers; texts are not kept."""

    def __init__(self, paper: Paper) -> None:
        self._paper = paper
        self._answers: list[Answer] = []
        self._verdicts: list[Verdict] = []
        self._truncated = self._repetitive = self._unboxed = self._failed = 0

    def add(self, rows: pa.Table, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> None:
        """Count some rows with what a grader was given of them and what it said."""
        self._answers += [replace(answer, text=None) for answer in answers]
        self._verdicts += verdicts
        ends = rows["attempt_finish_reason"].to_pylist()
        self._truncated += ends.count("length")
        self._repetitive += ends.count("repetition")
        self._unboxed += sum(answer.text is None or not is_boxed(answer.text) for answer in answers)
        self._failed += len(rows) - rows["error"].null_count

    def report(self, kind: Kind) -> Report:
        """Rates over problems, with intervals that hold for few of them; an answer on which there is no verdict is wrong."""
        votes = self._by_problem()
        by_problem = [[vote.correct for vote in samples] for samples in votes]
        interval, total = accuracy_interval(by_problem), len(self._verdicts)
        ks = sorted(set(self._paper.k))
        band = pass_at_k_band(by_problem, ks)
        reasons = Counter(verdict.reason for verdict in self._verdicts)
        return {
            "benchmark": self._paper.name,
            "source": self._paper.source,
            "content_sha256": self._paper.content,
            "grader": self._paper.grader,
            "num_problems": len(by_problem),
            "num_samples": self._paper.num_samples,
            "avg@k": avg_at_k(by_problem)[1],
            "interval": [interval.low, interval.high],
            "interval_kind": interval.kind,
            **self._strict_and_lenient(kind, by_problem),
            "pass@k": {str(k): mean_pass_at_k(by_problem, k) for k in ks},
            "pass@k_band": {str(k): [band[k].low, band[k].high] for k in ks},
            "maj@k": self._majority(votes),
            "g_pass@k": {f"{k}@{share:g}": mean_g_pass_at_k(by_problem, k, share) for k in ks if k > 1 for share in THRESHOLDS},
            "truncated": self._truncated / total,
            "repetitive": self._repetitive / total,
            "unboxed": self._unboxed / total,
            "failed": self._failed / total,
            "numbers": kind.numbers(self._answers, self._verdicts),
            "graded_by": dict(reasons.most_common(MOST_REASONS)),
        }

    def _strict_and_lenient(self, kind: Kind, by_problem: Sequence[Sequence[bool]]) -> dict[str, Report | None]:
        """The accuracy by boxes alone and the one that takes answers without a box too; null for what the grader does not tell."""
        strict = self._grouped([verdict.correct is True and verdict.found_by == "box" for verdict in self._verdicts])
        takes_more = len(kind.ways) > 1
        return {
            "strict": _accuracy(strict) if "box" in kind.ways else None,
            "lenient": _accuracy(by_problem) if takes_more else None,
        }

    def _by_problem(self) -> list[list[Vote]]:
        """The samples of each problem, which stand side by side."""
        return self._grouped([Vote(verdict.extracted, verdict.correct is True) for verdict in self._verdicts])

    def _grouped(self, values: Sequence[Value]) -> list[list[Value]]:
        pairs = zip(self._paper.rows["problem_id"].to_pylist(), values, strict=True)
        return [[value for _, value in group] for _, group in groupby(pairs, key=lambda pair: pair[0])]

    def _majority(self, votes: Sequence[Sequence[Vote]]) -> float | None:
        """maj@n of all n samples; null where there is one, or where nobody says an answer that could be the same as another's."""
        if self._paper.num_samples == 1 or not any(vote.answer is not None for samples in votes for vote in samples):
            return None
        return mean_maj_at_k(votes, self._paper.num_samples)


def _accuracy(by_problem: Sequence[Sequence[bool]]) -> Report:
    interval = accuracy_interval(by_problem)
    return {"avg@k": avg_at_k(by_problem)[1], "interval": [interval.low, interval.high]}
