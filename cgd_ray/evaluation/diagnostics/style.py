"""What one answer looks like, apart from whether it is right: boxed or not, how long, how doubtful, how repetitive, whom it speaks of.

All of it is counted by simple rules, which miss cases and find false ones. They do so alike before and after a training, on the same
problems, so the numbers are there to be compared (drift.py) and not to be quoted alone.
How to use: `style_of(row)` with a row of graded.parquet.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cgd_ray.data.thoughts import marks_in
from cgd_ray.grading.extraction import is_boxed
from cgd_ray.selection.leakage import refinement_mentions_review

READS = ("question", "attempt", "attempt_thinking", "attempt_tokens", "attempt_finish_reason", "error")
"""The columns of an answer that style_of() looks at."""

DISTINCT_LENGTH = 4
"""Of the runs of pieces among which repetitions are counted; shorter ones repeat in any mathematics."""
LOOP_REPETITIONS = 4
"""Of one run of pieces, directly one after the other, that make a loop together with LOOP_PIECES: a list or a matrix has three alike."""
LOOP_PIECES = 48
"""That a loop covers at least, so that neither 0.3333 nor a row of zeros is one."""
LONGEST_PERIOD = 64
"""Pieces of one repetition, two or three sentences: a model that is stuck mostly repeats a phrase (arXiv 1904.09751)."""

_PIECE = re.compile(r"[^\W\d_]+|\d|\S")
"""A word, a digit, or a sign: a number that never ends is a loop as well."""
_LETTER = re.compile(r"[^\W\d_]")
_AGAIN = r"re-?(?:check|verify|consider|examine|think|evaluate|calculate|compute|count|read|visit|do|trace)"
_REFLECTION = re.compile(
    r"\b(?:wait|hm+|hold on|actually|alternatively|maybe|perhaps|on second thoughts?|not sure"
    rf"|let(?: me|'s| us) (?:just |quickly |now )?(?:check|test|verify|confirm|double[- ]check|think again|try again|{_AGAIN})"
    r"|double[- ]check(?:ing)?|i (?:have )?made (?:a|an|the) (?:\w+ )?(?:mistake|error|slip)|that(?:'s| is| was) not (?:right|correct)"
    r"|(?:is|was) (?:that|this|it) (?:right|correct|really|true)\b)\b"
)
"""In lower case: a turn to something else (wait, hold on, alternatively), doubt (hmm, maybe, not sure), a check of what was said (let me
verify), a mistake that is owned up to. These are what long chains of thought turn around at, and what is lost first where models learn
from a teacher that knew the answer (arXiv 2603.24472, 2607.05184). A word that the problem itself uses, as in "they wait", counts too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """One answer, its thoughts included where it has some."""

    is_boxed: bool
    mentions_review: bool
    """The answer, not its thoughts, speaks of a student, an attempt, a critique: words of the training that the reader knows nothing of."""
    is_truncated: bool
    thinks: bool
    num_tokens: int
    num_words: int
    num_reflections: int
    has_loop: bool
    distinct: float | None
    """Share of the runs of DISTINCT_LENGTH pieces that are different from each other; null for an answer without any."""


def style_of(row: Mapping[str, Any]) -> Style:
    """The style of an answer (the columns READS), which must not be one that failed."""
    text, thinking = row["attempt"] or "", row["attempt_thinking"] or ""
    whole = f"{thinking}\n{text}"
    pieces = _PIECE.findall(whole)
    return Style(
        is_boxed=is_boxed(text),
        mentions_review=refinement_mentions_review({"question": row["question"] or "", "refinement": text}),
        is_truncated=row["attempt_finish_reason"] == "length",
        thinks=bool(thinking.strip()) or marks_in(text) is not None,
        num_tokens=row["attempt_tokens"] or 0,
        num_words=sum(_LETTER.match(piece) is not None for piece in pieces),
        num_reflections=sum(1 for _ in _REFLECTION.finditer(whole.lower().replace("’", "'"))),
        has_loop=has_loop(pieces),
        distinct=distinct_share(pieces),
    )


def has_loop(pieces: Sequence[str]) -> bool:
    """Whether a run of at most LONGEST_PERIOD pieces comes LOOP_REPETITIONS times, one right after the other, on LOOP_PIECES in all."""
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(piece, len(numbers)) for piece in pieces), np.int64, len(pieces))
    return any(
        _longest_run(ids[period:] == ids[:-period]) >= max((LOOP_REPETITIONS - 1) * period, LOOP_PIECES - period)
        for period in range(1, min(LONGEST_PERIOD, len(ids) // LOOP_REPETITIONS) + 1)
    )


def distinct_share(pieces: Sequence[str]) -> float | None:
    """distinct-n of Li et al. 2016 (arXiv 1510.03055) of one answer; it falls with an answer's length as well."""
    count = len(pieces) - DISTINCT_LENGTH + 1
    if count < 1:
        return None
    return len(set(zip(*(pieces[start:] for start in range(DISTINCT_LENGTH)), strict=False))) / count


def _longest_run(is_same: np.ndarray) -> int:
    """Of neighbouring true ones."""
    breaks = np.flatnonzero(~is_same)
    return int(np.diff(breaks, prepend=-1, append=len(is_same)).max()) - 1
