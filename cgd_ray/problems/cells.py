r"""Turns what a row holds in a column into text, as people write it, or into null where nothing is there.

Why: pandas writes NaN for what is missing, exports blanks and "N/A", floats come as 1.5e-05, and answers as lists. Taken as they print,
they are references that no right answer equals, and nothing tells of it.
How to use: `text(0.000015)` is "0.000015"; `answer_text(["1", "2"], several="set")` is "\{1, 2\}".
"""

import math
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from reprlib import Repr
from typing import Any, Literal

NOTHING = {"", "nan", "n/a", "#n/a", "<na>", "none", "null"}
"""What exports write where there is no value; in lower case, as the text of an answer or a solution."""
ROUNDINGS = 4
"""Units in the last place by which a computed float misses the short decimal that it stands for: 0.1 + 0.2 is 0.3."""
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def text(value: Any) -> str | None:
    """A text as it stands; a number, positionally; null where there is nothing. Raises ValueError, a few words, for anything else."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime) and value.time() == time.min:
        value = value.date()  # the datasets library reads a column of JSON texts like "2026-11-30" so
    if isinstance(value, bool | int | date):
        return str(value)
    if isinstance(value, float | Decimal):
        return _number_text(value)
    raise ValueError(f"{shown(value)}, which is neither a text nor a number")


def answer_text(value: Any, several: Literal["refuse", "set"] = "refuse") -> str | None:
    """The same for an answer or a solution: null for a text that says so too, and lists as `several` says."""
    if isinstance(value, list | tuple):
        return _list_text(value, several)
    found = text(value)
    return None if found is None or found.strip().lower() in NOTHING else found


def shown(value: Any) -> str:
    """A value as messages show it: on one line, and not longer than that."""
    return _SHORT.repr(value)


def _number_text(value: float | Decimal) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ValueError(f"{value}, which is no number that an answer can be compared with")
    if isinstance(value, float):
        short = float(f"{value:.14g}")
        if not value.is_integer() and abs(short - value) <= ROUNDINGS * math.ulp(value):
            value = short
        value = Decimal(repr(value))
    digits = format(value, "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits


def _list_text(values: Sequence[Any], several: Literal["refuse", "set"]) -> str | None:
    answers = list(dict.fromkeys(answer for value in values if (answer := answer_text(value, several)) is not None))
    if len(answers) < 2:
        return answers[0] if answers else None
    if several == "refuse":
        raise ValueError(f"a list of {len(answers)} answers, {shown(answers)} (with list_answers set they are one together)")
    return f"\\{{{', '.join(answer.strip().strip('$') for answer in answers)}\\}}"
