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
    "content_sha256": "problems",
    "grader": "grader",
    "num_problems": "number of problems",
    "num_samples": "number of samples per problem",
}
"""What all evaluations of a benchmark in a comparison have in common: keys of their reports, and what they are in words."""


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
    """In what two reports are not of the same evaluation, in words with both values; None where they are."""
    found = [(words, mine.get(key), others.get(key)) for key, words in ALIKE.items() if mine.get(key) != others.get(key)]
    return None if not found else "{} {} and not {}".format(*found[0])


def check_alike(name: str, mine: dict[str, Answers], others: dict[str, Answers]) -> None:
    """Raise ValueError when a cell's evaluation is not of what the untrained student's is of."""
    for benchmark, theirs in others.items():
        what = difference(mine[benchmark].report, theirs.report)
        if what is None and mine[benchmark].problem_ids != theirs.problem_ids:
            what = "other problems"
        if what is not None:
            raise ValueError(
                f"{name} was evaluated on {benchmark} with {what}, as the untrained student was; remove its evaluation directory, and the "
                "same command makes it again"
            )


def _read(directory: Path) -> Answers:
    report = read_json(directory / "report.json")
    assert report is not None, "an evaluation with a manifest has a report"
    rows = pq.read_table(directory / "graded.parquet", columns=["problem_id", "correct"])
    correct = np.array(rows["correct"].to_pylist(), dtype=bool)
    ids = rows["problem_id"].to_pylist()
    num_samples = int(report["num_samples"])
    return Answers(report=report, problem_ids=tuple(ids[::num_samples]), correct_PN=correct.reshape(-1, num_samples))
