"""What a grader is given and what it says: answers in, verdicts with their reason out, and the interface of the kinds of grading.

A kind of grading (boxed mathematics, an option's letter, instructions, a user's own function) is a frozen dataclass, so that it crosses
processes. What it can decide in microseconds it decides at once; what may hang or eat memory it leaves to a process that can be killed
(grader.py). How to use: see graders.py, which makes a grader from a name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FoundBy = Literal["box", "phrase", "last line", "last number", "whole text"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer to be graded."""

    text: str | None
    """What the model said, without its thinking; null when the row failed."""
    reference: str | None
    """The right answer; null where there is none, as for instructions."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else the problem's row holds and some kinds need: `choices`; `question`, `instruction_id_list` and `kwargs`."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one answer."""

    correct: bool | None
    """None where nothing could be graded: no text, no reference, a grader that failed."""
    extracted: str | None
    """What was taken for the final answer."""
    reason: str
    """A few words: "equal: written alike", "unequal: algebra", "no box", "timeout"."""
    found_by: FoundBy | None = None
    """Where the final answer was found, so that one pass tells the strict accuracy, of boxes alone, beside the lenient one."""


class Kind(Protocol):
    """How one kind of answers is graded."""

    @property
    def name(self) -> str:
        """By which graders.py makes it again in another process."""
        ...

    @property
    def ways(self) -> tuple[FoundBy, ...]:
        """Where it looks for a final answer, the best place first; none where the whole answer is judged as it stands."""
        ...

    def prepare(self) -> None:
        """Import what `decide` needs; called once in each process, so that no answer's limit is spent on importing."""
        ...

    def at_once(self, answer: Answer) -> Verdict | None:
        """The verdict where it takes no time; None where `decide` has to be asked in a process that can be killed."""
        ...

    def decide(self, answer: Answer) -> Verdict:
        """The verdict, however long it takes. Raises Ungradable where the row, or what is installed, is at fault."""
        ...

    def numbers(self, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, float]:
        """What is reported of this kind beside the accuracy."""
        ...


class Ungradable(ValueError):
    """A row, or an installation, with which no answer can be graded: one line for the user, and the end of the evaluation."""


def no_verdict(answer: Answer) -> Verdict | None:
    """The verdict on an answer without text or reference; None where there are both."""
    if answer.text is not None and answer.reference is not None:
        return None
    return Verdict(correct=None, extracted=None, reason="no answer" if answer.text is None else "no reference")


def both(answer: Answer) -> tuple[str, str]:
    """Text and reference of an answer on which no_verdict() decides nothing."""
    assert answer.text is not None, "there is a text where no_verdict() decides nothing"
    assert answer.reference is not None, "there is a reference where no_verdict() decides nothing"
    return answer.text, answer.reference
