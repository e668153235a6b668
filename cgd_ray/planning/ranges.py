"""A number that is not known exactly: what is likely, and between which bounds. Sums and products of ranges keep to their bounds.

How to use: `Range.of(500, low=200, high=1200) * 1000`; `str(hours)`.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Three numbers, low <= likely <= high."""

    likely: float
    low: float
    high: float

    def __post_init__(self) -> None:
        assert self.low <= self.likely <= self.high, f"{self.low} <= {self.likely} <= {self.high}"

    @classmethod
    def exactly(cls, value: float) -> "Range":
        """One that is known."""
        return cls(value, value, value)

    @classmethod
    def around(cls, value: float, error: float) -> "Range":
        """One that is known to within a share of it."""
        return cls(value, value * (1 - error), value * (1 + error))

    def __iter__(self) -> Iterator[float]:
        """In the order in which one is made."""
        return iter((self.likely, self.low, self.high))

    def __add__(self, other: "Range | float") -> "Range":
        other = other if isinstance(other, Range) else Range.exactly(other)
        return Range(self.likely + other.likely, self.low + other.low, self.high + other.high)

    __radd__ = __add__

    def __mul__(self, other: "Range | float") -> "Range":
        other = other if isinstance(other, Range) else Range.exactly(other)
        return Range(self.likely * other.likely, self.low * other.low, self.high * other.high)

    __rmul__ = __mul__

    def __truediv__(self, other: "Range | float") -> "Range":
        other = other if isinstance(other, Range) else Range.exactly(other)
        return Range(self.likely / other.likely, self.low / other.high, self.high / other.low)

    def at_most(self, bound: float) -> "Range":
        """The same, cut at a bound."""
        return Range(min(self.likely, bound), min(self.low, bound), min(self.high, bound))

    def longest(self, other: "Range") -> "Range":
        """The larger of two, as of things that run at the same time."""
        return Range(max(self.likely, other.likely), max(self.low, other.low), max(self.high, other.high))

    def as_dict(self) -> dict[str, float]:
        """For plan.json."""
        return {"likely": self.likely, "low": self.low, "high": self.high}
