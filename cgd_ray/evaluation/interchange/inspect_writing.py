"""Evaluations as logs of Inspect (.eval, log version 2), to be opened with `inspect view` and read with `read_eval_log`.

A log is a zip: header.json, a member for each sample and epoch, and summaries of all samples, which lists are made from. It is compressed
with Deflate, which Inspect reads beside its own Zstandard. An answer that could not be graded is wrong here, as in this project's own
report; Inspect would leave it out. How to use: `write_inspect(evaluation, Path("logs"))`.
"""

import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cgd_ray import __version__
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import atomic_write
from cgd_ray.evaluation.interchange.neutral import (
    GRADER,
    NUM_SAMPLES,
    OWN_KEY,
    SAMPLING,
    Answer,
    Evaluation,
    Problem,
    file_name,
    mean_and_error,
)

LOG_VERSION = 2
SUMMARY_WIDTH = 1024
"""Characters of a text in the summaries, as many as Inspect keeps of a metadata value."""
GENERATE_CONFIG = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "stop": "stop_seqs",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""Inspect's names of the settings of SamplingConfig that it has too."""
STOP_REASONS = {"stop": "stop", "length": "max_tokens", "repetition": "max_tokens"}


def write_inspect(evaluation: Evaluation, output: Path) -> Path:
    """A log at `output` where that ends in .eval, otherwise in the directory `output` under a name as Inspect gives it."""
    created = datetime.fromtimestamp(evaluation.finished, UTC).isoformat(timespec="seconds")
    task, identity = file_name(evaluation.benchmark), short_hash(f"{evaluation.path}\x00{evaluation.model}\x00{created}")
    name = f"{created}_{task}_{identity}.eval".replace(":", "-").replace("+", "-")
    file = output if output.suffix == ".eval" else output / name
    with atomic_write(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        rates, summaries = _write_samples(archive, evaluation)
        start = {"version": LOG_VERSION, "eval": _spec(evaluation, created, identity, list(rates)), "plan": _plan(evaluation)}
        _write(archive, "_journal/start.json", start)
        _write(archive, "summaries.json", summaries)
        _write(archive, "reductions.json", [_reductions(evaluation, rates)])
        times = {"started_at": created, "completed_at": created}
        _write(archive, "header.json", {**start, "status": "success", "results": _results(evaluation, rates), "stats": times})
    return file


def _write_samples(archive: zipfile.ZipFile, evaluation: Evaluation) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Write each sample's member; rates by sample id, and the summaries."""
    rates: dict[str, float] = {}
    summaries = []
    for problem in evaluation.problems():
        sample_id = file_name(problem.id)
        rates[sample_id] = problem.rate
        for epoch, answer in enumerate(problem.answers, 1):
            sample = {**_asked(sample_id, epoch, problem), **_answered(evaluation, answer)}
            _write(archive, f"samples/{sample_id}_epoch_{epoch}.json", sample)
            summaries.append(_summary(sample))
    if not rates:
        raise ValueError(f"{evaluation.path} has no problems; evaluate again")
    return rates, summaries


def _write(archive: zipfile.ZipFile, name: str, content: object) -> None:
    archive.writestr(name, json.dumps(content, ensure_ascii=False))


def _asked(sample_id: str, epoch: int, problem: Problem) -> dict[str, Any]:
    return {
        "id": sample_id,
        "epoch": epoch,
        "input": problem.question or "",
        "target": problem.reference_answer or "",
        "metadata": {"problem_id": problem.id},
    }


def _answered(evaluation: Evaluation, answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text or "", "source": "generate", "model": evaluation.model}
    choices = [{"message": message, "stop_reason": STOP_REASONS.get(answer.finish_reason or "", "unknown")}]
    tokens = answer.num_tokens
    usage = None if tokens is None else {"input_tokens": 0, "output_tokens": tokens, "total_tokens": tokens}
    failed = answer.error is not None
    return {
        "messages": [] if failed else [message],
        "output": {"model": evaluation.model, "choices": [] if failed else choices, "completion": answer.text or "", "usage": usage},
        "scores": {_scorer(evaluation): _score(answer)},
        "error": {"message": answer.error, "traceback": "", "traceback_ansi": ""} if failed else None,
    }


def _score(answer: Answer) -> dict[str, Any]:
    return {
        "value": "C" if answer.correct else "I",
        "answer": answer.extracted,
        "explanation": answer.reason,
        "metadata": {"graded": answer.graded},
        "history": [],
    }


def _summary(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What lists of samples are made from: no answer, and long texts cut."""
    cut = {name: sample[name][:SUMMARY_WIDTH] for name in ("input", "target")}
    scores = {name: {**score, "answer": (score["answer"] or "")[:SUMMARY_WIDTH]} for name, score in sample["scores"].items()}
    error = None if sample["error"] is None else sample["error"]["message"]
    kept = {name: sample[name] for name in ("id", "epoch", "metadata")}
    return {**kept, **cut, "scores": scores, "error": error, "completed": True, "message_count": len(sample["messages"])}


def _spec(evaluation: Evaluation, created: str, identity: str, sample_ids: list[str]) -> dict[str, Any]:
    return {
        "eval_id": identity,
        "run_id": identity,
        "task_id": identity,
        "created": created,
        "task": evaluation.benchmark,
        "dataset": {"name": evaluation.benchmark, "samples": len(sample_ids), "sample_ids": sample_ids, "shuffled": False},
        "model": evaluation.model,
        "config": {"epochs": evaluation.settings.get(NUM_SAMPLES)},
        "packages": {"cgd-ray": __version__},
        "scorers": [{"name": _scorer(evaluation), "options": {}}],
        "metadata": {OWN_KEY: {"settings": dict(evaluation.settings)}},
    }


def _plan(evaluation: Evaluation) -> dict[str, Any]:
    sampling = evaluation.settings.get(SAMPLING) or {}
    config = {theirs: sampling[ours] for ours, theirs in GENERATE_CONFIG.items() if sampling.get(ours) is not None}
    return {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": config}


def _results(evaluation: Evaluation, rates: Mapping[str, float]) -> dict[str, Any]:
    mean, error = mean_and_error(list(rates.values()))
    total = len(rates) * (evaluation.settings.get(NUM_SAMPLES) or 1)
    metrics = {name: {"name": name, "value": value} for name, value in (("accuracy", mean), ("stderr", error))}
    score = {
        "name": _scorer(evaluation),
        "scorer": _scorer(evaluation),
        "scored_samples": len(rates),
        "unscored_samples": 0,
        "metrics": metrics,
    }
    headline = {"scorer": score["scorer"], "score": score["name"], "metric": "accuracy"}
    return {"total_samples": total, "completed_samples": total, "scores": [score], "headline": headline}


def _reductions(evaluation: Evaluation, rates: Mapping[str, float]) -> dict[str, Any]:
    """Each problem's mean over its samples."""
    return {"scorer": _scorer(evaluation), "samples": [{"sample_id": name, "value": rate} for name, rate in rates.items()]}


def _scorer(evaluation: Evaluation) -> str:
    return str(evaluation.settings.get(GRADER) or "correct")
