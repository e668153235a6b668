"""What a comparison found: a row for each arm and benchmark, with intervals, the difference to the reference, and what the arm cost.

The two levels of chance are kept apart (evaluation/statistics/seeds.py): with several seeds an interval says where another training on
other problems would come out, with one only what other problems would give. p-values of a benchmark are corrected for each other by Holm.
How to use: `rows = compared(conditions, reference)`, `sentence(rows, reference)`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgd_ray.comparison.costs import Costs
from cgd_ray.comparison.results import Answers
from cgd_ray.config.comparison import BASE
from cgd_ray.evaluation.statistics.paired import compare_paired
from cgd_ray.evaluation.statistics.seeds import arm_over_seeds, difference_over_seeds
from cgd_ray.evaluation.statistics.several import holm

LEVEL = 0.05
RATES = ("truncated", "unboxed", "failed")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """An arm under one setting of the rest, with the models of its seeds; the untrained student is one model for all seeds."""

    arm: str
    setting: str
    """As Cell.setting; empty for the untrained student."""
    seeds: tuple[int, ...]
    answers: Sequence[Mapping[str, Answers]]
    """Of each model, by benchmark."""
    costs: Costs
    """Of the records and of the mean training."""

    def accuracy_SP(self, benchmark: str) -> NDArray[np.float64]:
        """Of each seed on each problem."""
        return np.stack([found[benchmark].accuracy_P for found in self.answers])


def compared(conditions: Sequence[Condition], reference: str) -> list[Row]:
    """Rows for all conditions, benchmark by benchmark, in their order; `reference` is the arm that each is compared with.

    A condition is compared with the reference of its own setting; the untrained student with that of the only one, if there is one only.
    """
    settings = dict.fromkeys(condition.setting for condition in conditions if condition.arm != BASE)
    references = {condition.setting: condition for condition in conditions if condition.arm == reference}
    if len(settings) == 1:
        references[""] = references[next(iter(settings))]
    rows = []
    for benchmark in conditions[0].answers[0]:
        of_benchmark = [_row(condition, benchmark, references.get(condition.setting), len(settings) > 1) for condition in conditions]
        corrected = holm({row["name"]: row["p"] for row in of_benchmark if row["p"] is not None}, LEVEL)
        for row in of_benchmark:
            found = corrected.get(row["name"])
            row |= {"p_holm": None if found is None else found.adjusted, "is_different": None if found is None else found.significant}
        rows += of_benchmark
    return rows


def sentence(rows: Sequence[Row], reference: str) -> str:
    """What the rows say, in words."""
    parts = []
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        tested = [row for row in rows if row["benchmark"] == benchmark and row["p"] is not None]
        different = [f"{row['name']} {100 * row['difference']:+.1f} points {_bounds(row)}" for row in tested if row["is_different"]]
        alike = [f"{row['name']} {100 * row['difference']:+.1f} {_bounds(row)}" for row in tested if not row["is_different"]]
        told = f"on {benchmark}, beyond chance (Holm, {100 * LEVEL:g} %): {', '.join(different) or 'none'}"
        parts.append(told + (f"; not so: {', '.join(alike)}" if alike else ""))
    only_one = any(row["num_seeds"] == 1 for row in rows if row["arm"] != BASE)
    caution = "; with 1 seed, what another training would give is unknown" if only_one else ""
    return f"Against {reference} {'. '.join(parts)}{caution}."


def _row(condition: Condition, benchmark: str, reference: Condition | None, names_setting: bool) -> Row:
    answers = [found[benchmark] for found in condition.answers]
    accuracy = arm_over_seeds(condition.accuracy_SP(benchmark), int(answers[0].report["num_samples"]))
    shown = accuracy.over_both or accuracy.over_problems
    return {
        "benchmark": benchmark,
        "name": f"{condition.arm} {condition.setting}" if names_setting and condition.setting else condition.arm,
        "arm": condition.arm,
        "setting": condition.setting,
        "seeds": list(condition.seeds),
        "num_seeds": len(condition.answers),
        "num_problems": accuracy.num_problems,
        "accuracy": accuracy.mean,
        "interval": [shown.low, shown.high],
        "interval_kind": shown.kind,
        "interval_over_problems": [accuracy.over_problems.low, accuracy.over_problems.high],
        "seed_accuracies": list(accuracy.seed_means),
        "seed_deviation": accuracy.seed_deviation,
        **(_NO_DIFFERENCE if reference is None or reference.arm == condition.arm else _difference(condition, reference, benchmark)),
        **{rate: fmean(found.report[rate] for found in answers) for rate in RATES},
        **condition.costs,
    }


_NO_DIFFERENCE: Row = {"difference": None, "difference_interval": None, "difference_kind": None, "p": None, "test": None}


def _difference(condition: Condition, reference: Condition, benchmark: str) -> Row:
    """The condition minus the reference."""
    mine, theirs = condition.accuracy_SP(benchmark), reference.accuracy_SP(benchmark)
    if condition.arm == BASE:  # trained from no seed, so the same whichever there is
        mine = np.repeat(mine, len(theirs), axis=0)
    if min(len(mine), len(theirs)) == 1:
        paired = compare_paired(reference.answers[0][benchmark].by_problem_id, condition.answers[0][benchmark].by_problem_id)
        interval = paired.interval
        found = {"difference": paired.difference, "p": paired.p_value, "test": f"{paired.test}, for these trainings"}
    else:
        result = difference_over_seeds(theirs, mine, int(condition.answers[0][benchmark].report["num_samples"]))
        interval = result.over_both or result.over_problems
        found = {"difference": result.difference, "p": result.p_value, "test": "t over seeds and problems"}
    return {**found, "difference_interval": [interval.low, interval.high], "difference_kind": interval.kind}


def _bounds(row: Row) -> str:
    low, high = row["difference_interval"]
    return f"[{100 * low:.1f}, {100 * high:.1f}]"
