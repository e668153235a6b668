"""Finds what a record gives away: an answer that the critique tells, a refinement that copies, one that speaks of the review.

With the answer in c, y^ may be a copy of it; a copy of y' teaches nothing new; and "as the critique says" would surface at inference, where
there is no critique. These are findings to count and to have a policy on, not errors: a copy of a right attempt is natural, and a critique
may well say what comes out. How to use: `find_leaks(row)` gives names of LEAKS.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

COPY_SIMILARITY = 0.95
COPY_RUN_WORDS = 5

# What makes one and the same mathematics look different
_LAYOUT = re.compile(r"\\(?:left|right|displaystyle|q?quad)(?![a-z])|\\[,;:! ]|\^\s*(?:\{\s*)?\\circ(?:\s*\})?|\\?[%$]|[°~*]")
_WRAPPER = re.compile(r"\\(?:boxed|fbox|text(?:bf|it|rm)?|math(?:bf|it|rm)|mbox)\s*\{([^{}]*)\}")
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")  # what is left of a box with braces in it: its last brace does no harm
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)\s*(\d))")
_THOUSANDS = re.compile(r"[1-9](?<![\d,.(].)\d{0,2}(?:(?:,|\{,\})\d{3})+(?![\d,])")
_ZERO_DECIMALS = re.compile(r"(?<![\d.])(\d+)\.0+(?!\d)")
_TOKEN = re.compile(r"(?:(?<![\w)\]}])-)?\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?[a-z]*|[^\W\d_]\w*|\\[a-z]+|\\?\S")

_LABEL = re.compile(
    r"^[^\w\n]*\d+[.):](?!\d)|\b(?:step|part|line|case|point|equation|mistake|error)s?\s*[#(]?\d+(?:\s*(?:and|to|[-–])\s*\d+)*",
    re.MULTILINE,
)
"""In lower case, numbers that count something: "Step 2", "3." at the start of a line."""
_PIECE = re.compile(r"\d+|[^\W\d_]+")
_TIES_BEFORE, _TIES_AFTER = frozenset("^_/{"), frozenset("^_/")
"""Beside an expression they make it a part of something larger."""
_PROSE = frozenset({"yes", "no", "true", "false", "none", "even", "odd", "right", "wrong", "correct", "incorrect"})

_FORMER = "previous|earlier|original|initial|prior|submitted|proposed|incorrect|wrong|flawed"
_TELLING = re.compile("student|attempt|review|feedback|critique|solution|mistake|error|response|answer|version")
"""A part of every match of _REVIEW, which alone is found many times as fast."""
_REVIEW = re.compile(
    rf"\b(?:the|this|that|your|my|their|his|her) (?:(?:{_FORMER}|first|given) )?(student|attempt|review|feedback)\b"
    r"|\b(critique|reviewer)s?\b"
    r"|\byour (solution|mistake|error)\b"
    rf"|\b(?:{_FORMER}|given|provided) (solution|response)\b"
    rf"|\b({_FORMER}) answer\b(?! (?:choice|option))"
    r"|\b(corrected|improved|revised|refined) (?:solution|answer|response|version)\b"
)
"""The one group of a match is the word that gives it away, unless the question has that word."""
_AROUND = 40
"""Characters on either side of a telling word within which all of a match is."""


def find_leaks(row: Row) -> list[str]:
    """Names of the leaks of a record that has a refinement."""
    return [name for name, is_leak in LEAKS.items() if is_leak(row)]


def answer_in_critique(row: Row) -> bool:
    """Does the critique tell the reference answer, which is neither in the question nor in the attempt?

    A number counts as a whole only, and not as the label of a step. An answer that is one letter or an everyday word ("yes") cannot be
    told from prose and is never found.
    """
    answer = _tokens(row["reference_answer"] or "")
    is_prose = len(answer) == 1 and (answer[0] in _PROSE or (len(answer[0]) == 1 and answer[0].isalpha()))
    if not answer or is_prose or _holds(row["question"] or "", answer):
        return False
    critique = (row["critique"] or "").lower()
    return _may_hold(critique, answer) and _holds(_LABEL.sub(" ", critique), answer) and not _holds(row["attempt"] or "", answer)


def refinement_copies_attempt(row: Row) -> bool:
    """Are refinement and attempt the same up to white space, or nearly so: Jaccard similarity of their runs of 5 words at least 0.95?"""
    attempt, refinement = ((row[column] or "").split() for column in ("attempt", "refinement"))
    if attempt == refinement:
        return bool(attempt)
    theirs, ours = _runs(attempt), _runs(refinement)
    union = len(theirs | ours)
    return union > 0 and len(theirs & ours) >= COPY_SIMILARITY * union


def refinement_mentions_review(row: Row) -> bool:
    """Does the refinement speak of a student, an attempt or a review, in words that the question does not bring along itself?"""
    text = " ".join((row["refinement"] or "").lower().split())
    telling = {found[found.lastindex or 0] for place in _near_telling_words(text) for found in _REVIEW.finditer(text, *place)}
    return any(not re.search(rf"\b{word}", row["question"], re.IGNORECASE) for word in telling)


LEAKS: dict[str, Callable[[Row], bool]] = {
    "answer_in_critique": answer_in_critique,
    "refinement_copies_attempt": refinement_copies_attempt,
    "refinement_mentions_review": refinement_mentions_review,
}


def _near_telling_words(text: str) -> Iterator[tuple[int, int]]:
    """The places, as [start, end), outside of which nothing matches _REVIEW; none touches another."""
    start, end = 0, -1
    for word in _TELLING.finditer(text):
        if word.start() - _AROUND > end:
            if end > 0:
                yield start, end
            start = max(word.start() - _AROUND, 0)
        end = word.end() + _AROUND
    if end > 0:
        yield start, end


def _may_hold(text: str, answer: Sequence[str]) -> bool:
    """False where a number or a word of the answer is nowhere in a text, which is told without making tokens of it."""
    plain = text.lower().replace(",", "").replace("{", "").replace("}", "")  # which may stand between the digits of one number
    return all(piece in plain for token in answer for piece in _PIECE.findall(token))


def _holds(text: str, answer: Sequence[str]) -> bool:
    """Is the answer among a text's tokens, and not a part of something larger?"""
    if not _may_hold(text, answer):
        return False
    tokens = ["", *_tokens(text), ""]
    length = len(answer)
    return any(
        tokens[start : start + length] == answer and tokens[start - 1] not in _TIES_BEFORE and tokens[start + length] not in _TIES_AFTER
        for start in range(1, len(tokens) - length)
        if tokens[start] == answer[0]
    )


def _tokens(text: str) -> list[str]:
    """A text's words, numbers and signs, with what is mere layout taken out; a minus belongs to its number where it is no difference."""
    text = _LAYOUT.sub(" ", text.replace("−", "-").lower())
    text = _FRACTION.sub(lambda found: "/".join(part for part in found.groups() if part), text)
    text = _BOX.sub(" ", _WRAPPER.sub(r" \1 ", text))
    text = _ZERO_DECIMALS.sub(r"\1", _THOUSANDS.sub(lambda found: re.sub(r"\D", "", found.group()), text))
    return _TOKEN.findall(text)


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    return set(zip(*(words[start:] for start in range(COPY_RUN_WORDS)), strict=False))
