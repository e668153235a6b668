r"""Mathematics: the last box, then a final-answer phrase, then the last number is compared by rules and, where needed, by algebra.

Most pairs are plain numbers, words and equal expressions; rules decide them in microseconds. What takes algebra, or is long, goes to
math-verify in a process that can be killed.
Two kinds: `boxed-math` takes a phrase such as "The answer is 4." or the last number where there is no box, and says of each answer how it
was found, so that one pass gives the lenient accuracy and the strict one, of boxes alone; `boxed-math-strict` takes boxes only, and decides
what is trained on, since a student learns the format with the answer.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from cgd_ray.grading.equivalence import Judgement, judge
from cgd_ray.grading.extraction import Found, find_answer, innermost
from cgd_ray.grading.verdict import Answer, FoundBy, Verdict, both, no_verdict

SHORT_LENGTH = 300  # characters; a longer answer is read where it can be killed


@dataclass(frozen=True, kw_only=True)
class BoxedMath:
    """Answers equal as mathematics."""

    name: str = "boxed-math"
    ways: tuple[FoundBy, ...] = ("box", "phrase", "last number")

    def prepare(self) -> None:
        """Load math-verify and sympy."""
        load_algebra()

    def at_once(self, answer: Answer) -> Verdict | None:
        """The verdict where rules decide."""
        if (verdict := no_verdict(answer)) is not None:
            return verdict
        text, reference = both(answer)
        if (found := find_answer(text, self.ways)) is None:
            return Verdict(correct=False, extracted=None, reason=f"no {', '.join(self.ways)}")
        return compared_at_once(found, reference)

    def decide(self, answer: Answer) -> Verdict:
        """The verdict with algebra."""
        text, reference = both(answer)
        found = find_answer(text, self.ways)
        assert found is not None, "else it is decided at once"
        return compared_by_algebra(found, reference)

    def numbers(self, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, float]:
        """None."""
        return {}


def compared_at_once(found: Found, reference: str) -> Verdict | None:
    """The verdict where rules decide; None where algebra is needed, or the answer is too long to be read here."""
    answer, wanted = innermost(found.answer), innermost(reference)
    if max(len(answer), len(wanted)) > SHORT_LENGTH:
        return None
    judgement = judge(answer, wanted)
    return None if judgement.right is None else _verdict(judgement, answer, found.by)


def compared_by_algebra(found: Found, reference: str) -> Verdict:
    """The verdict, whatever it takes. What sympy cannot compare is not equal."""
    from cgd_ray.grading.equivalence.algebra import equal_by_algebra

    answer = innermost(found.answer)
    try:
        return _verdict(judge(answer, innermost(reference), algebra=equal_by_algebra), answer, found.by)
    except MemoryError:
        raise
    except Exception:  # sympy raises whatever it meets in odd expressions
        return Verdict(correct=False, extracted=answer, reason="unequal: no mathematics", found_by=found.by)


def load_algebra() -> None:
    """Load math-verify and sympy into a process that can be killed."""
    import cgd_ray.grading.equivalence.algebra  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limits are off, at every pair


def _verdict(judgement: Judgement, answer: str, by: FoundBy) -> Verdict:
    right = judgement.right is True
    return Verdict(correct=right, extracted=answer, reason=f"{'equal' if right else 'unequal'}: {judgement.rule}", found_by=by)
