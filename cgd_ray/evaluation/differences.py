"""What the training did to a run's student: trained minus untrained, problem by problem, on every benchmark that both have answered.

How to use: `write_json(run.differences, trained_minus_base(run))`; the report shows it, and the closing table.
"""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cgd_ray.data.rundir import RunDir
from cgd_ray.evaluation.statistics.paired import ByProblemId, compare_paired
from cgd_ray.evaluation.statistics.several import holm

BEFORE, AFTER = "base", "trained"


def trained_minus_base(run: RunDir) -> dict[str, Any]:
    """`rows` as reporting/page/compared.py reads them, a benchmark each; empty where one of the two models has not answered yet."""
    found = run.evaluated()
    benchmarks = [name for name in found[BEFORE] if name in found[AFTER]]
    compared = {name: compare_paired(graded(found[BEFORE][name]), graded(found[AFTER][name])) for name in benchmarks}
    corrected = holm({name: pair.p_value for name, pair in compared.items()})
    rows = [
        {
            "name": AFTER,
            "benchmark": name,
            "num_problems": pair.num_problems,
            "difference": pair.difference,
            "interval": [pair.interval.low, pair.interval.high],
            "interval_kind": pair.interval.kind,
            "p": pair.p_value,
            "p_holm": corrected[name].adjusted,
            "test": pair.test,
            "better": pair.second_better,
            "worse": pair.first_better,
        }
        for name, pair in compared.items()
    ]
    return {"reference": BEFORE, "rows": rows}


def graded(home: Path) -> ByProblemId:
    """Of a model's answers to one benchmark, whether each sample is right, by problem."""
    table = pq.read_table(home / "graded.parquet", columns=["problem_id", "correct"])
    found: dict[str, list[bool]] = {}
    for problem_id, correct in zip(table["problem_id"].to_pylist(), table["correct"].to_pylist(), strict=True):
        found.setdefault(problem_id, []).append(correct)
    return found
