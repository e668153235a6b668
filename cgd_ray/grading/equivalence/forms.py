"""What an answer can be: a number with its unit, a text, a time, a set ... Readers make these (reading.py), rules compare them (rules.py).

Every form keeps its `source`, the respelled LaTeX, so that two forms that no rule knows can still be given to the algebra.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What stands beside a number: units of measure and money that must agree, and words that only say what was counted."""

    measures: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    percent: bool = False

    def agrees_with(self, other: "Unit") -> bool:
        """A unit that one of the two leaves out disagrees with nothing."""
        if not (self.measures or self.words) or not (other.measures or other.words):
            return True
        if self.measures or other.measures:
            return self.measures == other.measures
        return self.words <= other.words or other.words <= self.words


NO_UNIT = Unit()


@dataclass(frozen=True, kw_only=True)
class Form:
    """Any answer."""

    source: str


@dataclass(frozen=True, kw_only=True)
class Number(Form):
    """A number as digits: 5, -2.50, 1/2, 2 1/2, 3e8."""

    value: Fraction
    places: int | None = None
    """Digits behind the point; None when it was written without a point, so is exact."""
    unit: Unit = NO_UNIT


@dataclass(frozen=True, kw_only=True)
class Expression(Form):
    """Mathematics that takes algebra to compare."""

    unit: Unit = NO_UNIT
    kind: Literal["value", "equation", "inequality", "set"] = "value"


@dataclass(frozen=True, kw_only=True)
class Text(Form):
    """Letters and words, which do not commute."""

    words: str


@dataclass(frozen=True, kw_only=True)
class Choice(Form):
    """An option with its letter and what it says: "B. 5"; the content is None in "Option B"."""

    letter: str
    content: Form | None


@dataclass(frozen=True, kw_only=True)
class Clock(Form):
    """A time of day in seconds since midnight, or a ratio that looks like one."""

    seconds: int
    marked: bool
    """Was it written with a.m. or p.m.?"""
    ratio: tuple[Fraction, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Date(Form):
    """A day; the year is None where none is written."""

    year: int | None
    month: int
    day: int


@dataclass(frozen=True, kw_only=True)
class Based(Form):
    """Digits in a base that is written beside them: 101_2."""

    digits: str
    base: int


@dataclass(frozen=True, kw_only=True)
class Range(Form):
    """From one number to another, or a score: 10-20. Never the difference."""

    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True)
class Ratio(Form):
    """Numbers in proportion: 3:2."""

    parts: tuple[Fraction, ...]


@dataclass(frozen=True, kw_only=True)
class Group(Form):
    """Several answers: in braces a set, in other brackets a tuple or an interval, bare a list in any order."""

    opening: str
    closing: str
    items: tuple[Form, ...]

    @property
    def ordered(self) -> bool:
        """Does the order of the items count?"""
        return self.opening in ("(", "[")


@dataclass(frozen=True, kw_only=True)
class Matrix(Form):
    """Rows of cells."""

    rows: tuple[tuple[Form, ...], ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Named(Form):
    """A value with the name that it was given: x = 5, f(x) = 2x, AB = 7."""

    name: str
    value: Form
