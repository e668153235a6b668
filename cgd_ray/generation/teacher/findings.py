"""What the first rows tell of a teacher: are they usable, does it conclude, does it judge rightly, does it know the answers.

Grades are those of the selection, so the figures are a small repair matrix. How to use: `found = findings(rows, grader, "use")`;
`found.text()`; `found.shortfall(0.05)` is the first figure that is too small, or None.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cgd_ray.config import CutAttempts
from cgd_ray.data.records import TURNS, unusable
from cgd_ray.grading.extraction import is_boxed
from cgd_ray.grading.grader import Grader
from cgd_ray.selection.verdicts import says_nothing_else

Row = Mapping[str, Any]
READS = ("record_id", "reference_answer", "error", "verdict", *TURNS, *(f"{turn}_finish_reason" for turn in TURNS))
"""Columns of a record that are looked at."""
LEAST_JUDGED = 10
"""Rows below which a figure says nothing: where one in five is right, seven in a hundred sets of twelve rows have none."""

REMEDIES: Mapping[str, str] = {
    "can be trained on": "Mend the most frequent of these reasons (raise sampling.max_tokens of the role whose answers are truncated)",
    "critiques conclude": "Set generation.structured_verdict=true, or take another wording (prompts)",
    "verdicts are right": "Take another teacher, or another wording (prompts)",
    "refinements are right": "Take a stronger teacher or easier problems, or a wording that has it box its answer (prompts)",
}
"""What each share is of, and what to do where it is too small."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Counts over some rows."""

    rows: int
    lost: Mapping[str, int]
    """Why rows cannot be trained on -> how many; "failed" for those that could not be processed."""
    critiques: int
    """Whole ones."""
    concluding: int
    """Those of them with a single verdict."""
    empty: int
    """Those of them that say nothing but their verdict."""
    judged: int
    """Verdicts on attempts that have a box and a reference answer."""
    judged_rightly: int
    graded: int
    """Usable refinements of problems with a reference answer."""
    right: int

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file; Findings(**it) is the same again."""
        return {**asdict(self), "lost": dict(self.lost)}

    def text(self) -> str:
        """All figures in a line."""
        reasons = "".join(f", {count:,} {reason}" for reason, count in self.lost.items())
        return (
            f"{self.rows - sum(self.lost.values()):,} of {self.rows:,} rows can be trained on{reasons}; "
            f"{self.concluding:,} of {self.critiques:,} critiques conclude, {self.empty:,} say nothing else; "
            f"{self.judged_rightly:,} of {self.judged:,} verdicts are right; {self.right:,} of {self.graded:,} refinements are right"
        )

    def shortfall(self, least: float) -> str | None:
        """The first thing of which there is less than this share (a key of REMEDIES), among those that enough rows speak of."""
        shares = (
            (self.rows - sum(self.lost.values()), self.rows),
            (self.concluding, self.critiques),
            (self.judged_rightly, self.judged),
            (self.right, self.graded),
        )
        below = (what for what, (count, total) in zip(REMEDIES, shares, strict=True) if total >= LEAST_JUDGED and count < least * total)
        return next(below, None)


def findings(rows: Sequence[Row], grader: Grader, cut_attempts: CutAttempts) -> Findings:
    """The counts of finished rows (READS)."""
    reasons = ["failed" if row["error"] is not None else unusable(row, TURNS, cut_attempts) for row in rows]
    critiques = [row for row in rows if row["critique_finish_reason"] == "stop"]
    on_boxes = [row for row in critiques if row["verdict"] is not None and is_boxed(row["attempt"] or "")]
    grades = _grades(on_boxes, "attempt", grader)
    refined = _grades([row for row, reason in zip(rows, reasons, strict=True) if reason is None], "refinement", grader)
    return Findings(
        rows=len(rows),
        lost=dict(Counter(reason for reason in reasons if reason is not None).most_common()),
        critiques=len(critiques),
        concluding=sum(row["verdict"] is not None for row in critiques),
        empty=sum(says_nothing_else(row["critique"] or "") for row in critiques),
        judged=sum(grade is not None for grade in grades),
        judged_rightly=sum((row["verdict"] == "right") == grade for row, grade in zip(on_boxes, grades, strict=True)),
        graded=sum(grade is not None for grade in refined),
        right=sum(grade is True for grade in refined),
    )


def _grades(rows: Sequence[Row], turn: str, grader: Grader) -> list[bool | None]:
    return grader.grade([(row[turn], row["reference_answer"]) for row in rows])
