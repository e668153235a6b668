"""From problems to trained examples: how many are left after each stage, and why the others are not.

How to use: `funnel(run, scan(run))`.
"""

from typing import Any

from cgd_ray.data.rundir import RunDir, read_json, read_manifest
from cgd_ray.reporting.page.reading import read_columns
from cgd_ray.reporting.page.records import Scan


def funnel(run: RunDir, found: Scan) -> list[dict[str, Any]]:
    """Stages in their order: name, count, and `lost` {reason: how many of the stage before are not here for it}."""
    if not run.work_list.exists():
        return []
    ids = read_columns(run.work_list, ["problem_id"])["problem_id"]
    num_problems, num_planned = len(ids.unique()), len(ids)
    stages = []
    if (removed := (read_json(run.decontamination) or {}).get("removed")) is not None:
        stages.append(_stage("problems read", num_problems + removed))
        stages.append(_stage("problems without overlap with a benchmark", num_problems, {"overlaps with a benchmark": removed}))
    else:
        stages.append(_stage("problems", num_problems))
    if num_planned != num_problems:
        stages.append(_stage("samples of them", num_planned))
    return stages + _of_records(run, found, num_planned)


def _of_records(run: RunDir, found: Scan, num_planned: int) -> list[dict[str, Any]]:
    if not found.num_rows:
        return []
    dropped, failed = found.dropped(), found.failed()
    num_whole = found.num_rows - sum(failed.values())
    stages = [_stage("records generated", num_whole, {**failed, "not generated yet": num_planned - found.num_rows})]
    if not found.is_graded:
        return stages
    num_selected = num_whole - sum(dropped.values())
    stages.append(_stage("records selected", num_selected, dropped))
    if (examples := read_manifest(run.examples)) is not None:
        stages.append(_stage("examples trained on", examples["examples"], examples["dropped"]))
    return stages


def _stage(name: str, count: int, lost: dict[str, int] | None = None) -> dict[str, Any]:
    return {"name": name, "count": count, "lost": {reason: number for reason, number in (lost or {}).items() if number > 0}}
