"""A finished evaluation, whichever tool made it.

What is small is here at once; the answers are streamed from the files each time they are asked for, since a thousand problems with sixteen
answers of 30 KB are half a gigabyte. How to use: `for evaluation in find_evaluations(path): for problem in evaluation.problems(): ...`.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cgd_ray.data.records import short_hash

PROMPT, SAMPLING, GRADER, NUM_SAMPLES = "prompt", "sampling", "grader", "num_samples"
"""The settings of an evaluation that another one must share to be compared with it."""
OWN_KEY = "cgd_ray"
"""Where this project's own facts are in what it writes for other tools, so that they can be read back whole."""

GRADES = {"C": True, "I": False, "N": False, "true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
"""Inspect's letters (correct, incorrect, no answer), and the words that it takes for numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One sample of a model's answers to a problem."""

    correct: bool
    """False, too, when nothing could be graded."""
    graded: bool = True
    """False where the grader gave no verdict, or a verdict that is no number."""
    text: str | None = None
    extracted: str | None = None
    """What the grader took for the final answer."""
    reason: str | None = None
    """A few words on the grade."""
    finish_reason: str | None = None
    """"stop", "length", "repetition", or None where that is not recorded."""
    num_tokens: int | None = None
    error: str | None = None
    """Why there is no answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One problem with all its answers."""

    id: str
    question: str | None = None
    reference_answer: str | None = None
    answers: tuple[Answer, ...]

    @property
    def rate(self) -> float:
        """Share of the answers that are right."""
        return fmean(answer.correct for answer in self.answers)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model on one benchmark."""

    source: str
    """The tool that made it."""
    path: Path
    """Where it lies, to be named to the user."""
    benchmark: str
    model: str
    settings: Mapping[str, Any]
    """PROMPT, SAMPLING and GRADER in a tool's own words, NUM_SAMPLES; None or missing where the tool has not recorded it."""
    words: str
    """The tool in whose words the settings are: OWN_KEY also in what this project writes for others."""
    finished: float
    """When, in seconds since 1970."""
    problems: Callable[[], Iterator[Problem]]
    """Reads the problems, in any order, each with NUM_SAMPLES answers. Raises ValueError, one line, for what is wrong with a file."""


def right_or_wrong(value: object) -> bool | None:
    """A score as a verdict; None for none and for NaN, with which tools mark what they could not grade.

    Raises ValueError for partial credit and for whatever else is neither right nor wrong.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and (grade := GRADES.get(value, GRADES.get(value.lower()))) is not None:
        return grade
    raise ValueError(f"the score {str(value)[:40]!r} is neither right nor wrong")


def mean_and_error(rates: Sequence[float]) -> tuple[float, float]:
    """Mean over problems and its standard error, 0 for one problem: the two numbers that both tools' own tables show.

    Not what a comparison is judged by: under a few hundred problems the error is too small.
    """
    return fmean(rates), stdev(rates) / math.sqrt(len(rates)) if len(rates) > 1 else 0.0


def file_name(text: str) -> str:
    """A text as part of a file's name; where something had to be replaced, a hash keeps different texts apart."""
    safe = re.sub(r"[^\w.\-]+", "-", text)[:80].lstrip(".")
    return safe if safe == text else f"{safe}-{short_hash(text)}"
