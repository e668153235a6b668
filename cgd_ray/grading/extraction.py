r"""Finds the final answer in a text: the last box, the last phrase such as "The answer is ...", the last number.

Not left to math-verify, which makes one set of boxes that stand near each other, so that no answer that corrects itself was right, and
which takes a number from the text around an empty box. The ways are named by the caller: a text that was asked for a box and has
none is wrong for a strict grader, while a lenient one takes the phrase, or the last number, and says so (`Found.by`). phrases.py has the
phrases, in the languages in which models answer.
How to use: `find_answer(text, ("box", "phrase"))`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cgd_ray.grading.phrases import ANNOUNCED, DENIED, SENTENCE_END
from cgd_ray.grading.verdict import FoundBy

MAX_PHRASE = 400
"""Characters of a phrase's answer that are looked at; a longer one is no final answer."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is no brace
_DISPLAYED = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"[-−－]?\d[\d,，]*(?:[.．]\d+)?(?:[/／]\d+)?")  # digits of any width


@dataclass(frozen=True, kw_only=True)
class Found:
    """A final answer, and how it was found."""

    answer: str
    by: FoundBy


def find_answer(text: str, ways: Sequence[FoundBy]) -> Found | None:
    """The answer by the first of the ways that finds one."""
    for by in ways:
        if (answer := _WAYS[by](text)) is not None:
            return Found(answer=answer, by=by)
    return None


def is_boxed(text: str) -> bool:
    r"""Does the text hold a `\boxed{...}` (or `\fbox`) answer at all?"""
    return "\\boxed" in text or "\\fbox" in text


def boxed_answer(text: str) -> str | None:
    r"""What the last `\boxed{...}` (or `\fbox`) of a text holds; None when nothing is boxed, or the last box is empty or never closed."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    rest = text[boxes[-1].end() :]
    if not rest.startswith("{"):  # \boxed 4
        return rest.partition("\n")[0].partition("$")[0].strip() or None
    depth = 0
    for brace in _BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return rest[1 : brace.start()].strip() or None
    return None


def innermost(answer: str) -> str:
    """The answer without boxes around it."""
    while (boxed := boxed_answer(answer)) is not None:
        answer = boxed
    return answer


def phrased_answer(text: str) -> str | None:
    """What the last phrase such as "The answer is ..." names, to the end of its sentence; one that denies ("is not 4") names nothing."""
    for phrase in reversed(list(ANNOUNCED.finditer(text))):
        named = _to_the_end_of_its_sentence(text[phrase.end() : phrase.end() + MAX_PHRASE].lstrip(" \t\n*_"))
        if named and not DENIED.match(named) and not is_boxed(named):
            return named
    return None


def last_number(text: str) -> str | None:
    """The last number of a text."""
    numbers = _NUMBER.findall(text)
    return numbers[-1].rstrip(",，") if numbers else None


def last_line(text: str) -> str | None:
    """The last line that says anything."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def _to_the_end_of_its_sentence(text: str) -> str:
    if displayed := _DISPLAYED.match(text):
        return (displayed[1] or displayed[2]).strip()
    has_money = _num_dollars(text.partition("\n")[0]) % 2 == 1  # "The answer is $5. It ..." opens no mathematics
    for end in SENTENCE_END.finditer(text):
        before = text[: end.start()]
        if (has_money or _num_dollars(before) % 2 == 0) and before.count(r"\(") == before.count(r"\)"):
            return before.strip(" \t*_")
    return text.strip(" \t*_") if len(text) < MAX_PHRASE else ""


def _num_dollars(text: str) -> int:
    return text.replace(r"\$", "").count("$")


_WAYS: Mapping[FoundBy, Callable[[str], str | None]] = {
    "box": boxed_answer,
    "phrase": phrased_answer,
    "last line": last_line,
    "last number": lambda text: None if is_boxed(text) else last_number(text),  # one beside an empty or open box is no answer
    "whole text": lambda text: text.strip() or None,
}
