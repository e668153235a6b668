"""Reads a critique's verdict, however the teacher worded it: right, wrong, or none.

The teacher is asked to end with one line, 'Conclusion: right' or 'Conclusion: wrong'. Models vary case, markup, punctuation and words, and
some contradict themselves. Only lines that announce a conclusion count, all such lines must agree, and what cannot be told is None: a
guess would bend the verdicts' mix, which is itself studied. How to use: `parse_verdict(critique)`; `says_nothing_else(critique)`.
"""

import re
from typing import Literal

Verdict = Literal["right", "wrong"]

_RIGHT = r"right|correct|true|accurate|valid|sound"
_WRONG = r"wrong|incorrect|false|inaccurate|invalid|unsound|flawed"
_MARKUP = re.compile(
    r"\\boxed|\\text(?:bf|it)?|\[/?END\]|<\|[^|<>]*\|>|</?[a-z]+>|[*_`#>\[\](){}\"“”‘$]|(?<!n)['’]|['’](?!t)", re.IGNORECASE
)
_ANNOUNCEMENT = re.compile(
    r"^(?:(?:final|overall|my|the)\s+)*(?:conclusion|verdict|judge?ment)\s*(?:is)?\s*[:：=\-–—]?\s*(?P<rest>.*)$", re.IGNORECASE
)
_STATEMENT = re.compile(
    rf"^(?:so\s+|therefore,?\s+|thus,?\s+|hence,?\s+)?(?:(?:it|that|this|(?:the|this)\s+(?:\w+\s+){{0,2}}(?:attempt|solution|answer|response))\s+)?"
    rf"(?:(?:is|was)(?:\s+|(?=n['’]t)))?(?P<negated>not\s+|n['’]t\s+)?(?:entirely\s+|completely\s+|fully\s+|mathematically\s+)?(?P<word>{_WRONG}|{_RIGHT})\b(?P<tail>.*)$",
    re.IGNORECASE,
)
_ANY_VERDICT = re.compile(rf"\b(?:{_WRONG}|{_RIGHT})\b", re.IGNORECASE)
_WORD = re.compile(r"\w")
_WRONG_WORD = re.compile(_WRONG, re.IGNORECASE)


def parse_verdict(critique: str) -> Verdict | None:
    """The single verdict that a critique announces, or None when it announces none or several that differ."""
    lines = [line for line in (_plain(raw) for raw in critique.splitlines()) if line]
    announced: list[Verdict | None] = []
    for index, line in enumerate(lines):
        found = _ANNOUNCEMENT.match(line)
        if found is None:
            continue
        # "Conclusion:" may stand alone, with its word on the next line
        rest = found.group("rest") or (lines[index + 1] if index + 1 < len(lines) else "")
        announced.append(_stated(rest))
    told = {verdict for verdict in announced if verdict is not None}
    if not announced or announced[-1] is None or len(told) != 1:
        return None
    return told.pop()


def says_nothing_else(critique: str) -> bool:
    """Whether there is nothing in a critique but its verdict, if even that: no word on what is wrong, or why nothing is."""
    return all(map(_is_bare, filter(None, map(_plain, critique.splitlines()))))


def _is_bare(line: str) -> bool:
    """Whether a plain line is a conclusion, or one half of it, without a reason."""
    announced = _ANNOUNCEMENT.match(line)
    rest = line if announced is None else announced.group("rest")
    stated = _STATEMENT.match(rest)
    return not rest if stated is None else not _WORD.search(stated.group("tail"))


def without_conclusion(critique: str) -> str:
    """The critique up to the conclusion that it ends with, if it ends with one."""
    lines = critique.rstrip().splitlines()
    for num_last in (1, 2):  # "Conclusion:" may stand alone, with its word on the next line
        last = " ".join(filter(None, map(_plain, lines[-num_last:])))
        if (found := _ANNOUNCEMENT.match(last)) and (not found.group("rest") or _stated(found.group("rest"))):
            return "\n".join(lines[:-num_last]).rstrip()
    return critique.rstrip()


def _plain(line: str) -> str:
    """The line without markup, list marks and surrounding punctuation."""
    return _MARKUP.sub(" ", line).strip(" \t.,;:!?-–—•").strip() if line.strip() else ""


def _stated(text: str) -> Verdict | None:
    """The verdict of "right", "it is incorrect", "not correct"; None for "right or wrong" and for anything else."""
    found = _STATEMENT.match(text)
    if found is None or _ANY_VERDICT.search(found.group("tail")):
        return None
    is_wrong = _WRONG_WORD.fullmatch(found.group("word")) is not None
    return "wrong" if is_wrong != bool(found.group("negated")) else "right"
