"""What was planned stands beside what came out, where both are known."""

import json
from pathlib import Path

from cgd_ray.data.rundir import RunDir, write_json, write_manifest
from cgd_ray.reporting.planned import planned_against_measured

GIB = 2**30
STEP = {"train/step": 1, "train/tokens": 480, "memory/peak_gib": 1.25}
PLAN = {
    "tokens": {role: {"generated": {"likely": 1000.0}} for role in ("student", "teacher")},
    "steps": {"likely": 3.0},
    "trained_tokens": {"likely": 1500.0},
    "training_memory": {"device": {"parameters": GIB, "process": GIB / 2}},
    "phases": [{"name": "generate", "seconds": {"likely": 40.0}}, {"name": "train", "seconds": None}],
}


def test_a_run_without_a_plan_compares_nothing(tmp_path: Path) -> None:
    assert planned_against_measured(RunDir(str(tmp_path))) is None


def test_each_figure_is_beside_what_came_out(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    write_json(run.plan, PLAN)
    tokens = {turn: {"tokens": 300} for turn in ("attempt", "critique", "refinement")}
    write_manifest(run.records, "any", [], {"tokens": tokens})
    run.metrics.parent.mkdir(parents=True, exist_ok=True)
    run.metrics.write_text("".join(json.dumps({**STEP, "train/step": step}) + "\n" for step in (1, 2)))
    write_json(run.seconds, {"generate": 50.0, "train": 20.0})
    compared = planned_against_measured(run)
    assert compared is not None
    assert compared["student_tokens"] == {"planned": 1000.0, "measured": 300.0}
    assert compared["teacher_tokens"]["measured"] == 600.0
    assert compared["steps"] == {"planned": 3.0, "measured": 2.0}
    assert compared["trained_tokens"]["measured"] == 960.0
    assert compared["rank_gib"] == {"planned": 1.5, "measured": 1.25}
    assert compared["generate_seconds"] == {"planned": 40.0, "measured": 50.0}
    assert "train_seconds" not in compared
