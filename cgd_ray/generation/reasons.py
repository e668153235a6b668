"""Why rows failed, counted by kind: two reasons that differ in their numbers alone, as a prompt's length, are of one kind.

How to use: `reasons.add(row["error"])`, then `reasons.most_common()`.
"""

import re
from collections import Counter

MOST_KINDS = 20
"""Kinds that are told apart where their number must be bounded."""


def kind_of(reason: str) -> str:
    """The reason with N in place of its numbers."""
    return re.sub(r"\d[\d,.]*", "N", reason)


class ReasonCounts:
    """How many reasons there were of each kind, which is told by the first of them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str) -> None:
        """Count a failed row."""
        kind = kind_of(reason)
        self._counts[kind] += 1
        self._examples.setdefault(kind, reason)

    def total(self) -> int:
        """All failed rows."""
        return self._counts.total()

    def most_common(self) -> dict[str, int]:
        """One reason of each of the most common kinds -> rows of its kind, the most common first."""
        return {self._examples[kind]: count for kind, count in self._counts.most_common(MOST_KINDS)}
