"""Counts of some records, by which the advisories judge: made from the rows of a part, added up over the parts of a window.

How to use: `figures = read_figures(part, MOST_ROWS, max_tokens, budget)`, `figures.update(others)`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cgd_ray.data.reasons import ReasonCounts
from cgd_ray.data.records import TURNS, Turn
from cgd_ray.grading.extraction import is_boxed
from cgd_ray.selection.leakage import find_leaks
from cgd_ray.selection.verdicts import says_nothing_else

COLUMNS = (
    "error",
    "question",
    "reference_answer",
    "verdict",
    *TURNS,
    *(f"{turn}_finish_reason" for turn in TURNS),
    *(f"{turn}_tokens" for turn in TURNS),
)
"""What is read of a record."""
COPIED_THOUGH_WRONG = "refinement_copies_attempt though the verdict is wrong"
"""A copy of a right attempt is as it should be, so only these are counted."""


@dataclass(kw_only=True)
class SearchBudget:
    """How much text is still searched for leaks; a search costs up to 3 ms for 1,000 characters."""

    characters: int


@dataclass(kw_only=True)
class Figures:
    """Counts of some records."""

    rows: int = 0
    errors: ReasonCounts = field(default_factory=ReasonCounts)
    """Of the rows that failed."""
    made: Counter[Turn] = field(default_factory=Counter)
    """Generations by turn."""
    cut: Counter[Turn] = field(default_factory=Counter)
    """Those of them that a limit has cut."""
    cut_by_context: Counter[Turn] = field(default_factory=Counter)
    """Those of the cut ones that are shorter than sampling.max_tokens, so that it was the context that ended."""
    repetitive: Counter[Turn] = field(default_factory=Counter)
    """Generations that were ended since they repeated themselves."""
    boxed: Counter[Turn] = field(default_factory=Counter)
    """Generations that ended by themselves and hold a box."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """right, wrong and missing, of whole critiques."""
    empty_critiques: int = 0
    """Those of them that say nothing but their verdict."""
    leaks: Counter[str] = field(default_factory=Counter)
    searched: int = 0
    """Records that were searched for leaks."""
    searched_wrong: int = 0
    """Those of them whose verdict is wrong."""

    def whole(self, turn: Turn) -> int:
        """Generations that ended by themselves."""
        return self.made[turn] - self.cut[turn] - self.repetitive[turn]

    def update(self, others: "Figures") -> None:
        """Add the counts of other records."""
        self.rows += others.rows
        self.empty_critiques += others.empty_critiques
        self.searched += others.searched
        self.searched_wrong += others.searched_wrong
        self.errors.update(others.errors)
        for mine, theirs in ((self.made, others.made), (self.cut, others.cut), (self.boxed, others.boxed)):
            mine.update(theirs)
        self.cut_by_context.update(others.cut_by_context)
        self.repetitive.update(others.repetitive)
        self.verdicts.update(others.verdicts)
        self.leaks.update(others.leaks)

    def add(self, row: Mapping[str, Any], max_tokens: Mapping[Turn, int], budget: SearchBudget) -> None:
        """Count a record (COLUMNS); `max_tokens` are the limits of the turns, as far as they are known."""
        self.rows += 1
        if row["error"] is not None:
            self.errors.add(row["error"])
        for turn in TURNS:
            if (reason := row[f"{turn}_finish_reason"]) is None:
                continue
            self.made[turn] += 1
            if reason == "repetition":
                self.repetitive[turn] += 1
            elif reason == "length":
                self.cut[turn] += 1
                self.cut_by_context[turn] += row[f"{turn}_tokens"] < max_tokens.get(turn, 0)
            else:
                self.boxed[turn] += is_boxed(row[turn] or "")
        if row["critique_finish_reason"] == "stop":
            self.verdicts[row["verdict"] or "missing"] += 1
            self.empty_critiques += says_nothing_else(row["critique"] or "")
        self._search(row, budget)

    def _search(self, row: Mapping[str, Any], budget: SearchBudget) -> None:
        if row["error"] is not None or row["refinement"] is None or budget.characters <= 0:
            return
        budget.characters -= sum(len(row[turn] or "") for turn in TURNS)
        self.searched += 1
        self.searched_wrong += row["verdict"] == "wrong"
        for leak in find_leaks(row):
            if leak != "refinement_copies_attempt":
                self.leaks[leak] += 1
            elif row["verdict"] == "wrong":
                self.leaks[COPIED_THOUGH_WRONG] += 1


def read_figures(part: Path, most_rows: int, max_tokens: Mapping[Turn, int], budget: SearchBudget) -> Figures:
    """The counts of a part's first rows."""
    figures = Figures()
    for batch in pq.ParquetFile(part).iter_batches(batch_size=most_rows, columns=list(COLUMNS), use_threads=False):
        for row in batch.to_pylist()[: most_rows - figures.rows]:
            figures.add(row, max_tokens, budget)
        if figures.rows >= most_rows:
            break
    return figures
