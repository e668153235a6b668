"""What the models of a comparison answered: read from its runs' evaluations, and refused where these are not of the same questions.

How to use: `base = answers(shared, "base")`, `theirs = answers(run, "trained")`, `check_alike("cgd-seed0-lr1e-4", base["problems"], ...)`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cgd_ray.data.rundir import RunDir, read_json

ALIKE = {
    "num_problems": "{} problems",
    "content_sha256": "problems of SHA-256 {}",
    "grader": "the grader {}",
    "num_samples": "num_samples {}",
}
"""What all evaluations of a benchmark in a comparison have in common: keys of their reports, and what they say in words."""
SHOWN_CHARACTERS = 16
"""Of a value."""
REMEDY = "remove its evaluation directory, and the same command makes it again"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One model's graded answers to one benchmark."""

    report: dict[str, Any]
    problem_ids: tuple[str, ...]
    """In their order, P of them."""
    correct_PN: NDArray[np.bool_]
    """Of N samples each."""

    @property
    def accuracy_P(self) -> NDArray[np.float64]:
        """Share of right samples."""
        shares: NDArray[np.float64] = self.correct_PN.mean(axis=1)
        return shares

    @property
    def by_problem_id(self) -> dict[str, list[bool]]:
        """The samples of each problem."""
        return dict(zip(self.problem_ids, self.correct_PN.tolist(), strict=True))


def answers(run: RunDir, model: str) -> dict[str, Answers]:
    """What a model answered, by benchmark; only finished evaluations."""
    return {name: _read(directory) for name, directory in run.evaluated()[model].items()}


def reports(run: RunDir, model: str) -> dict[str, dict[str, Any]]:
    """The reports alone."""
    return {name: read_json(directory / "report.json") or {} for name, directory in run.evaluated()[model].items()}


def difference(mine: dict[str, Any], others: dict[str, Any]) -> str | None:
    """In what two reports are not of the same evaluation, the values of both in words; None where they are."""
    different = next((key for key in ALIKE if mine.get(key) != others.get(key)), None)
    if different is None:
        return None
    my_words, other_words = (ALIKE[different].format(str(report.get(different))[:SHOWN_CHARACTERS]) for report in (mine, others))
    return f"{my_words}, the untrained student with {other_words}"


def check_alike(name: str, mine: dict[str, Answers], others: dict[str, Answers]) -> None:
    """Raise ValueError when a cell's evaluation is not of what the untrained student's is of."""
    for benchmark, theirs in others.items():
        if benchmark not in mine:
            raise ValueError(f"{name} was not evaluated on {benchmark}, the untrained student was; {REMEDY}")
        if (what := difference(mine[benchmark].report, theirs.report)) is not None:
            raise ValueError(f"{name} was evaluated on {benchmark} with {what}; {REMEDY}")
        if (odd := set(mine[benchmark].problem_ids) ^ set(theirs.problem_ids)) or mine[benchmark].problem_ids != theirs.problem_ids:
            which = f"only one of them was asked {min(odd)}" if odd else "in another order"
            raise ValueError(f"{name} and the untrained student were asked different problems of {benchmark} ({which}); {REMEDY}")


def _read(directory: Path) -> Answers:
    report = read_json(directory / "report.json")
    assert report is not None, "an evaluation with a manifest has a report"
    rows = pq.read_table(directory / "graded.parquet", columns=["problem_id", "correct"])
    correct = np.array(rows["correct"].to_pylist(), dtype=bool)
    ids = rows["problem_id"].to_pylist()
    num_samples = int(report["num_samples"])
    return Answers(report=report, problem_ids=tuple(ids[::num_samples]), correct_PN=correct.reshape(-1, num_samples))
