"""Mathematics as loosely as published results were graded: numbers are equal after rounding to one decimal, and the last number counts.

For comparing with published numbers only. It takes 0.04 for 0, so it is never the default, and each verdict that it owes to the rounding
says so. Other answers are graded as boxed mathematics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cgd_ray.grading.boxed_math import compared_at_once, compared_by_algebra, load_algebra
from cgd_ray.grading.equivalence.forms import Number
from cgd_ray.grading.equivalence.reading import read
from cgd_ray.grading.extraction import Found, find_answer, innermost
from cgd_ray.grading.verdict import Answer, FoundBy, Verdict, both, no_verdict

DECIMALS = 1


@dataclass(frozen=True, kw_only=True)
class LooseMath:
    """Answers equal as mathematics, or as numbers with one decimal."""

    name: str = "loose"
    ways: tuple[FoundBy, ...] = ("box", "phrase", "last number")

    def prepare(self) -> None:
        """Load math-verify and sympy."""
        load_algebra()

    def at_once(self, answer: Answer) -> Verdict | None:
        """The verdict where rules or rounding decide."""
        if (verdict := no_verdict(answer)) is not None:
            return verdict
        text, reference = both(answer)
        if (found := find_answer(text, self.ways)) is None:
            return Verdict(correct=False, extracted=None, reason="no number")
        exact = compared_at_once(found, reference)
        if exact is not None and exact.correct is False and _same_when_rounded(found, reference):
            reason = "equal after rounding to one decimal, as published"
            return Verdict(correct=True, extracted=exact.extracted, reason=reason, found_by=found.by)
        return exact

    def decide(self, answer: Answer) -> Verdict:
        """The verdict with algebra."""
        text, reference = both(answer)
        found = find_answer(text, self.ways)
        assert found is not None, "else it is decided at once"
        return compared_by_algebra(found, reference)

    def numbers(self, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, float]:
        """`not_rounded`: the accuracy without what only rounding makes equal."""
        exact = sum(verdict.correct is True and "rounding" not in verdict.reason for verdict in verdicts)
        return {"not_rounded": exact / len(verdicts)} if verdicts else {}


def _same_when_rounded(found: Found, reference: str) -> bool:
    answer, wanted = read(innermost(found.answer)), read(innermost(reference))
    if not (isinstance(answer, Number) and isinstance(wanted, Number)):
        return False
    return round(answer.value, DECIMALS) == round(wanted.value, DECIMALS)
