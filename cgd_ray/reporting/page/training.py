"""The curves of a training and where its steps' time went, from metrics.jsonl and validation.jsonl.

How to use: `curves(run)`, `step_seconds(run)`; None where no step was taken yet.
"""

from collections.abc import Sequence
from math import ceil, fsum, isfinite
from typing import Any

from cgd_ray.data.rundir import RunDir
from cgd_ray.training.observe.measurements import read_measurements
from cgd_ray.training.observe.metrics import read_metrics

MOST_POINTS = 1000
"""Of a curve; longer trainings are shown by ranges of steps."""
PHASES = ("data", "forward", "backward", "optimizer")

Steps = Sequence[dict[str, float]]


def curves(run: RunDir) -> dict[str, Any] | None:
    """Loss (mean of a range of steps), gradient norm (its greatest), held-out loss and the pass@1 of measured checkpoints, by step."""
    steps = read_metrics(run.metrics)
    if not steps:
        return None
    size = ceil(len(steps) / MOST_POINTS)
    ranges = [steps[start : start + size] for start in range(0, len(steps), size)]
    return {
        "steps_per_point": size,
        "num_steps": steps[-1].get("train/num_steps"),
        "step": [chunk[-1]["train/step"] for chunk in ranges],
        "loss": [_mean(chunk, "train/loss") for chunk in ranges],
        "grad_norm": [_greatest(chunk, "train/grad_norm") for chunk in ranges],
        "held_out": [[line["train/step"], line["validation/loss"]] for line in steps if "validation/loss" in line],
        "measured": _measured(run),
    }


def step_seconds(run: RunDir) -> list[dict[str, Any]]:
    """Sums over all steps on the first rank; `other` is what no phase accounts for."""
    steps = read_metrics(run.metrics)
    total = _sum(steps, "time/step_s")
    if not total:
        return []
    spent = {phase: _sum(steps, f"time/{phase}_s") for phase in PHASES}
    rest = {"other": max(0.0, total - fsum(spent.values()))}
    return [{"name": name, "seconds": round(amount, 2)} for name, amount in {**spent, **rest}.items()]


def _measured(run: RunDir) -> list[dict[str, Any]]:
    lines = read_measurements(run.metrics.with_name("validation.jsonl")).values()
    return [
        {"step": line["step"], "accuracy": line["pass@1"], "interval": line.get("pass@1_interval")} for line in lines if "pass@1" in line
    ]


def _values(steps: Steps, key: str) -> list[float]:
    return [line[key] for line in steps if key in line and isfinite(line[key])]


def _sum(steps: Steps, key: str) -> float:
    return fsum(_values(steps, key))


def _mean(steps: Steps, key: str) -> float | None:
    values = _values(steps, key)
    return fsum(values) / len(values) if values else None


def _greatest(steps: Steps, key: str) -> float | None:
    """None, a gap in the curve, where one of the steps has no finite value."""
    values = _values(steps, key)
    return max(values) if len(values) == len(steps) else None
