"""What a comparison of models found, as the page shows it: read from a file that the comparison or an evaluation has written.

The file holds `rows`: `name`, `benchmark`, `difference` (a share), its `interval`, `p` and `p_holm`. The row of an arm also has an
`accuracy` over its seeds: there `interval` is the accuracy's and `difference_interval` the difference's. It tells what the arm cost, as
far as that is known. Besides rows there may be the `reference` of the differences, a `sentence` that says what was found, and
`least_effect`, what each benchmark could show.
How to use: `compared(read_object(path))`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

FOUND = ("name", "benchmark", "num_problems")
ACCURACY = ("accuracy", "interval", "interval_kind", "seed_accuracies", "truncated", "unboxed", "failed")
COSTS = ("target_tokens", "student_tokens", "teacher_tokens", "engine_seconds", "worker_seconds", "gpu_seconds", "cpu_seconds", "cost")


def compared(content: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracies of arms, differences and costs apart, each a list that is empty where the file has none."""
    rows = content.get("rows") or []
    return {
        "reference": content.get("reference"),
        "sentence": content.get("sentence"),
        "least_effect": content.get("least_effect") or {},
        "arms": [_picked(row, (*FOUND, *ACCURACY)) for row in rows if row.get("accuracy") is not None],
        "differences": [_difference(row) for row in rows if row.get("difference") is not None],
        "costs": _costs(rows),
    }


def _difference(row: Mapping[str, Any]) -> dict[str, Any]:
    bounds = row["difference_interval"] if "difference_interval" in row else row.get("interval")
    return {**_picked(row, (*FOUND, "difference", "p", "p_holm", "test")), "interval": bounds}


def _costs(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An arm costs the same on every benchmark, so each is told once."""
    by_name = {row.get("name"): _picked(row, ("name", *COSTS)) for row in rows}
    return [row for row in by_name.values() if any(row[name] is not None for name in COSTS)]


def _picked(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in names}
