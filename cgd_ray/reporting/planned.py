"""What the plan of a run had said, beside what came out: how far its next plan can be believed.

How to use: `planned_against_measured(run)`, each as {"planned": ..., "measured": ...}; what either side does not know is left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from cgd_ray.data.records import TURNS_OF_ROLE
from cgd_ray.data.rundir import RunDir, read_json, read_manifest
from cgd_ray.training.observe.metrics import read_metrics

GIB = 2**30
Compared = dict[str, dict[str, float]]


def planned_against_measured(run: RunDir) -> Compared | None:
    """Tokens by role, steps, tokens trained on, seconds by phase, the memory of a rank; None for a run that was not planned."""
    plan = read_json(run.plan)
    if plan is None:
        return None
    planned, measured = dict(_planned(plan)), dict(_measured(run))
    return {name: {"planned": planned[name], "measured": measured[name]} for name in planned if name in measured}


def _planned(plan: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for role, tokens in plan["tokens"].items():
        yield f"{role}_tokens", tokens["generated"]["likely"]
    yield "steps", plan["steps"]["likely"]
    yield "trained_tokens", plan["trained_tokens"]["likely"]
    yield "rank_gib", sum(plan["training_memory"]["device"].values()) / GIB
    for phase in plan["phases"]:
        if phase["seconds"] is not None:
            yield f"{phase['name']}_seconds", phase["seconds"]["likely"]


def _measured(run: RunDir) -> Iterator[tuple[str, float]]:
    records = read_manifest(run.records)
    if records is not None:
        for role, turns in TURNS_OF_ROLE.items():
            yield f"{role}_tokens", float(sum(records["tokens"][turn]["tokens"] for turn in turns if turn in records["tokens"]))
    steps = read_metrics(run.metrics)
    if steps:
        yield "steps", float(len(steps))
        yield "trained_tokens", float(sum(step["train/tokens"] for step in steps))
        yield "rank_gib", max(step["memory/peak_gib"] for step in steps)
    for phase, seconds in (read_json(run.seconds) or {}).items():
        yield f"{phase}_seconds", float(seconds)
