"""Why rows failed, counted by kind, and how many may: two reasons that differ in numbers alone, as a prompt's length, are of one kind.

How to use: `reasons.add(row["error"])`, then `limit.check(num_rows, reasons.total(), reasons.most_common())`.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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

    def update(self, others: "ReasonCounts") -> None:
        """Count the rows that others have counted."""
        self._counts.update(others._counts)
        self._examples = others._examples | self._examples

    def total(self) -> int:
        """All failed rows."""
        return self._counts.total()

    def most_common(self) -> dict[str, int]:
        """One reason of each of the most common kinds -> rows of its kind, the most common first."""
        return {self._examples[kind]: count for kind, count in self._counts.most_common(MOST_KINDS)}


@dataclass(frozen=True, kw_only=True)
class FailureLimit:
    """How many rows may fail. There will never be fewer, so a run ends when there are more: a fault of every row costs little."""

    fraction: float
    """Of all rows."""
    records: Path
    """Directory of the records, for the message."""

    def check(self, rows: int, failed: int, errors: Mapping[str, int]) -> None:
        """Raise ValueError when more of so many rows failed; `errors` are the reasons, the most common first."""
        if failed <= self.fraction * rows:
            return
        reason, count = next(iter(errors.items()))
        raise ValueError(
            f"{failed} of {rows} rows failed: {failed / rows:.1%}, generation.max_failed_fraction is {self.fraction:.1%}. Most often "
            f"({count} times, numbers aside): {reason}. What is finished is kept in {self.records}: mend the cause and add "
            f"--retry-failed to the same command, or choose another run_dir with generation.reuse=[{self.records}], or raise the limit "
            "and run the same command again"
        )
