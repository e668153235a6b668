"""Answers that must be written as the reference is, but for white space: names, codes, strings.

The last box counts, else a final-answer phrase, else the whole text.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from cgd_ray.grading.extraction import find_answer
from cgd_ray.grading.verdict import Answer, FoundBy, Verdict, both, no_verdict


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The same characters."""

    name: str = "exact"
    ways: tuple[FoundBy, ...] = ("box", "phrase", "whole text")

    def prepare(self) -> None:
        """Nothing is needed."""

    def at_once(self, answer: Answer) -> Verdict:
        """Always a verdict."""
        if (verdict := no_verdict(answer)) is not None:
            return verdict
        text, reference = both(answer)
        if (found := find_answer(text, self.ways)) is None:
            return Verdict(correct=False, extracted=None, reason="empty")
        right = _spaced_alike(found.answer) == _spaced_alike(reference)
        return Verdict(correct=right, extracted=found.answer, reason="the same" if right else "not the same", found_by=found.by)

    def decide(self, answer: Answer) -> Verdict:
        """Never left to a process."""
        return self.at_once(answer)

    def numbers(self, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, float]:
        """None."""
        return {}


def _spaced_alike(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
