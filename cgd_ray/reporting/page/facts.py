"""What a run was, what it cost and where its time went: the heading and the ledger of the page.

How to use: `summary = recorded_summary(run)`, then `facts(run, summary)`, `costs(summary)` and `seconds(run)`.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from cgd_ray.data.rundir import RunDir, read_json
from cgd_ray.reporting.summary import Summary, summarise

AMOUNTS = ("prompt_tokens", "generated_tokens", "prefix_hits", "engine_seconds", "gpu_seconds", "cost")
HIDDEN_VERSIONS = frozenset({"cgd-ray"})


def recorded_summary(run: RunDir) -> Summary:
    """summary.json brought up to date with the manifests; versions and precision stay those of the process that wrote it.

    Where nothing can be summarised, as without problems or with a config of another version, it is the file alone, perhaps nothing.
    """
    recorded, config = read_json(run.summary) or {}, run.recorded_config()
    if config is None or not run.work_list.exists():
        return recorded
    kept = {key: recorded.get(key, {}) for key in ("versions", "precision")}
    return summarise(config, run) | kept


def facts(run: RunDir, summary: Mapping[str, Any]) -> list[list[str]]:
    """Names and values for the heading, in words."""
    found = [["directory", str(run.root)]]
    if (config := run.recorded_config()) is not None:
        found += [
            ["student", _short(config.student.model)],
            ["teacher", _short(config.teacher.model)],
            ["trained as", config.training.arm_label],
            ["learning rate", f"{config.training.learning_rate:g}"],
            ["epochs", f"{config.training.num_epochs:g}"],
            ["seed", str(config.training.seed)],
        ]
    if (training := summary.get("training")) is not None:
        found.append(["workers", f"{training['world_size']}, ZeRO-{training['zero_stage']}"])
        found.append(["target tokens", f"{training['target_tokens']:,}"])
    precision = {name: value for name, value in (summary.get("precision") or {}).items() if value}
    if precision:
        found.append(["precision", ", ".join(f"{name} {value}" for name, value in precision.items())])
    versions = {name: value for name, value in (summary.get("versions") or {}).items() if name not in HIDDEN_VERSIONS}
    if versions:
        found.append(["versions", ", ".join(f"{name} {value}" for name, value in versions.items())])
    return found


def costs(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ledger: a row for each role and one for a kept record; None before anything is generated."""
    generation = summary.get("generation")
    if generation is None:
        return None
    rows = [{"name": name, **{key: generation[name].get(key) for key in AMOUNTS}} for name in ("student", "teacher")]
    each = generation.get("per_kept_record") or {}
    return {
        "rows": rows,
        "per_kept_record": {key: each.get(key) for key in AMOUNTS},
        "currency": generation.get("currency"),
        "training": _training_cost(summary.get("training")),
    }


def seconds(run: RunDir) -> list[dict[str, Any]]:
    """Wall time of each stage over all tries, in the order of the run; `start` is what it takes to begin."""
    return [{"name": name, "seconds": round(spent, 1)} for name, spent in (read_json(run.seconds) or {}).items()]


def _training_cost(training: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if training is None:
        return None
    return {key: training.get(key) for key in ("tokens", "target_tokens", "tokens_per_s", "world_size", "peak_gib", "mfu", "seconds")}


def _short(model: str) -> str:
    """A hub's id as it is, a directory by its last two names."""
    return "/".join(PurePath(model).parts[-2:]) if PurePath(model).is_absolute() else model
