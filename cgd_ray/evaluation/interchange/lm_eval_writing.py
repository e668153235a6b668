"""Evaluations in lm-eval-harness's result schema, as its dashboards and `make_table` read it (version 0.4.13).

lm-eval has one score for a document: with several samples the metric is their mean, and the single grades are in the key OWN_KEY of each
line, from which lm_eval_reading.py takes them. A grader stands where lm-eval names a filter, since both decide what counts as the answer.
How to use: `written = write_lm_eval(evaluations, Path("results"))`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cgd_ray.data.rundir import atomic_write, write_json
from cgd_ray.evaluation.interchange.neutral import GRADER, OWN_KEY, SAMPLING, Evaluation, Problem, file_name, mean_and_error

METRIC = "exact_match"
UNSAFE = re.compile(r"[\"<>:/|\\?*\[\]]+")
"""What lm-eval replaces in a model's name to have one for its directory."""
VERSION = 1.0  # of the tasks as they are written here


def write_lm_eval(evaluations: Sequence[Evaluation], output: Path) -> list[Path]:
    """One model's evaluations, under `output` as under lm_eval's --output_path; the files written, results first."""
    model = evaluations[0].model
    assert all(evaluation.model == model for evaluation in evaluations), "a directory of results is one model's"
    date = (
        datetime.fromtimestamp(max(evaluation.finished for evaluation in evaluations), UTC)
        .replace(tzinfo=None)
        .isoformat()
        .replace(":", "-")
    )
    directory = output / UNSAFE.sub("__", model).lstrip(".")
    tasks = [file_name(evaluation.benchmark) for evaluation in evaluations]
    samples = [directory / f"samples_{task}_{date}.jsonl" for task in tasks]
    written = [_write_samples(evaluation, file) for evaluation, file in zip(evaluations, samples, strict=True)]
    results = directory / f"results_{date}.json"
    write_json(results, _results(evaluations, dict(zip(tasks, written, strict=True)), directory.name))
    return [results, *samples]


def _write_samples(evaluation: Evaluation, file: Path) -> dict[str, Any]:
    """Write a task's samples, and return what its results say of them: rates by problem and the hash over all."""
    rates, hashes = [], hashlib.sha256()
    with atomic_write(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for number, problem in enumerate(evaluation.problems()):
            sample = _sample(number, problem, evaluation.settings)
            rates.append(problem.rate)
            hashes.update((sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"]).encode())
            stream.write(json.dumps(sample, ensure_ascii=False) + "\n")
    if not rates:
        raise ValueError(f"{evaluation.path} has no problems; evaluate again")
    return {"rates": rates, "hash": hashes.hexdigest()}


def _sample(number: int, problem: Problem, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A line; the prompt is the problem alone, since chat templates are the models'."""
    document = {"problem_id": problem.id, "question": problem.question, "answer": problem.reference_answer}
    prompt, target = problem.question or "", problem.reference_answer or ""
    extracted = [answer.extracted or "" for answer in problem.answers]
    return {
        "doc_id": number,
        "doc": document,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": settings.get(SAMPLING) or {}}},
        "resps": [[answer.text or "" for answer in problem.answers]],
        "filtered_resps": extracted if len(extracted) == 1 else [extracted],
        "filter": _filter(settings),
        "metrics": [METRIC],
        "doc_hash": _sha256(json.dumps(document, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha256(prompt),
        "target_hash": _sha256(target),
        METRIC: problem.rate,
        OWN_KEY: [{name: value for name, value in asdict(answer).items() if name != "text"} for answer in problem.answers],
    }


def _results(evaluations: Sequence[Evaluation], written: Mapping[str, Mapping[str, Any]], model_directory: str) -> dict[str, Any]:
    by_task = dict(zip(written, evaluations, strict=True))
    return {
        "results": {task: _metrics(task, evaluation, written[task]["rates"]) for task, evaluation in by_task.items()},
        "group_subtasks": {},
        "configs": {task: _config(task, evaluation) for task, evaluation in by_task.items()},
        "versions": dict.fromkeys(by_task, VERSION),
        "n-shot": dict.fromkeys(by_task, 0),
        "higher_is_better": {task: {METRIC: True} for task in by_task},
        "n-samples": {task: dict.fromkeys(("original", "effective"), len(written[task]["rates"])) for task in by_task},
        "config": {"model": OWN_KEY, "model_args": f"pretrained={evaluations[0].model}", "limit": None, "bootstrap_iters": 0},
        "date": max(evaluation.finished for evaluation in evaluations),
        "model_source": OWN_KEY,
        "model_name": evaluations[0].model,
        "model_name_sanitized": model_directory,
        "system_instruction": None,
        "chat_template": None,
        "task_hashes": {task: found["hash"] for task, found in written.items()},
    }


def _metrics(task: str, evaluation: Evaluation, rates: Sequence[float]) -> dict[str, Any]:
    mean, error = mean_and_error(rates)
    name = _filter(evaluation.settings)
    return {"name": task, "alias": task, "sample_len": len(rates), f"{METRIC},{name}": mean, f"{METRIC}_stderr,{name}": error}


def _config(task: str, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "task": task,
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "num_fewshot": 0,
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
        "output_type": "generate_until",
        "generation_kwargs": dict(evaluation.settings.get(SAMPLING) or {}),
        "repeats": evaluation.settings.get("num_samples"),
        "metadata": {"version": VERSION, OWN_KEY: {"settings": dict(evaluation.settings)}},
    }


def _filter(settings: Mapping[str, Any]) -> str:
    """The grader as a filter's name, which ends at a comma in lm-eval's keys."""
    return str(settings.get(GRADER) or "none").replace(",", ";")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
