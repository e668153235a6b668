"""Selection, tokenising and packing at size: records/s with one CPU and with two, and what the driver's memory does as the data grow.

`python -m benchmarks.preparation [--json PATH]`; sizes are arguments. Each measurement is a process with a Ray of its own, all of whose
processes are bound to as many cores as are measured: a grader beside its task would otherwise use a second one. *Speed* is counted from
the first report of progress to the last, without the seconds in which Ray starts, and beside it, for machines that others use too, per CPU
second of all its processes (cpu_watch.py). *Driver memory* is the most that the process had resident, in all and above what it had with
everything imported, before it looked at any data. The records of the selection have 30 KB: attempt, critique and refinement of 10 KB each,
with an answer that has to be graded.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cpu_watch import CpuWatch
from benchmarks.figures import write_figures
from benchmarks.packing import STUDENT, TINYMATH, make_records
from cgd_ray.cluster.connection import connected
from cgd_ray.config import ClusterConfig, SelectionConfig, TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.records import RECORD_SCHEMA, SELECTED_SCHEMA, make_record_id
from cgd_ray.data.rundir import manifest_parts, write_manifest
from cgd_ray.selection.selection import select_records
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.examples.writing import make_examples

CONTEXT_LENGTH = 4096
ROWS_PER_PART = 1024
LONG_ROWS_PER_PART = 128
"""A part is a piece of work of its own, and speed is counted from the first one's end: of few large ones too much would go uncounted."""
TEXT_BYTES = 10_000
WORDS = "so we have that the number of apples is 3 times $x^2 + 1$ then \\frac{1}{2} of it and 1,000 more gives 42 , hence"
TASKS = {"prepare": "examples", "select": "records"}


def write_parts(
    root: Path, name: str, count: int, rows: list[dict[str, Any]], schema: pa.Schema, rows_per_part: int = ROWS_PER_PART
) -> Path:
    """Records by repeating some rows under new ids, in parts as the stages write them."""
    directory, parts = root / f"{name}-{count}", []
    directory.mkdir()
    base = pa.Table.from_pylist(rows[:rows_per_part], schema=schema)
    for start in range(0, count, rows_per_part):
        part = base.slice(0, min(rows_per_part, count - start))
        ids = pa.array([make_record_id(str(index), 0) for index in range(start, start + part.num_rows)])
        parts.append(directory / f"part-{start:09}.parquet")
        pq.write_table(part.set_column(part.schema.get_field_index("record_id"), "record_id", ids), parts[-1], row_group_size=64)
    write_manifest(directory, "benchmark", parts, {"rows": count})
    return directory


def long_records() -> list[dict[str, Any]]:
    """Records of 30 KB as generation leaves them."""
    rng, rows = random.Random(0), make_records(ROWS_PER_PART)
    for row in rows:
        answer = f"\\frac{{{rng.randrange(1, 90)}}}{{{rng.randrange(91, 99)}}}"
        for turn in ("attempt", "critique", "refinement"):
            words = rng.choices(WORDS.split(), k=TEXT_BYTES // 5)
            row[turn] = f"{' '.join(words)[:TEXT_BYTES]} \\boxed{{{answer}}}."
        row |= {f"{turn}_finish_reason": "stop" for turn in ("attempt", "critique", "refinement")}
        row["reference_answer"] = answer
    return [{name: row[name] for name in RECORD_SCHEMA.names} for row in rows]


def short_records() -> list[dict[str, Any]]:
    """Records whose examples are quickly made, to have many of them."""
    return [{**row, "question": "1 + 1", "attempt": "3", "critique": "No.", "refinement": "2"} for row in make_records(ROWS_PER_PART)]


def measure(task: str, data: Path, num_cpus: int) -> dict[str, float]:
    """One measurement, in the process that is asked for it."""
    reports: list[tuple[float, int]] = []

    def on_progress(rows: int) -> None:
        reports.append((time.time(), rows))

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_cpus])
    with connected(ClusterConfig(num_cpus=num_cpus)), tempfile.TemporaryDirectory(dir=data.parent) as directory:
        work = (_preparing if task == "prepare" else _selecting)(data, Path(directory))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        work(on_progress)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (first, _), *others = [report for report in reports if report[1]]
    return {
        "first": first,
        "last": others[-1][0],
        "rows": sum(rows for _, rows in others),
        "seconds": seconds,
        "driver_mib": peak / 1024,
        "driver_growth_mib": (peak - before) / 1024,
    }


def _preparing(data: Path, out: Path) -> Callable[[Callable[[int], None]], None]:
    chat, prompts = Chat.load(str(STUDENT)), load_prompts(str(TINYMATH / "prompts.yaml"))

    def prepare(on_progress: Callable[[int], None]) -> None:
        make_examples(TrainingConfig(context_length=CONTEXT_LENGTH), chat, prompts, data, out / "examples", on_progress)
        pack(CONTEXT_LENGTH, out / "examples", out / "packed")

    return prepare


def _selecting(data: Path, out: Path) -> Callable[[Callable[[int], None]], None]:
    def select(on_progress: Callable[[int], None]) -> None:
        select_records(SelectionConfig(), data, out / "selected", on_progress)

    return select


def measured(task: str, data: Path, num_cpus: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.preparation", "--measure", task, str(data), str(num_cpus)]
    with CpuWatch() as watch:
        ended = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **watch.environment})
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    first, last, timed = (found.pop(name) for name in ("first", "last", "rows"))
    usage = watch.between(first, last)
    found |= {"per_s": timed / (last - first), "per_cpu_s": timed / usage.own_s, "others_cpus": usage.others_s / (last - first)}
    rows = sum(pq.read_metadata(part).num_rows for part in manifest_parts(data))
    sys.stdout.write(
        f"{task:8} {rows:>9,} {TASKS[task]:8} {num_cpus} CPU: {found['per_s']:6,.0f} /s, {found['per_cpu_s']:6,.0f} a CPU second, "
        f"{found['others_cpus']:.1f} CPUs taken by others, {found['seconds']:4.0f} s in all, "
        f"driver {found['driver_mib']:5,.0f} MiB, {found['driver_growth_mib']:4,.0f} of them for the data\n"
    )
    sys.stdout.flush()
    return found


def main() -> None:
    """Print the figures, and write them to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--records", type=int, default=40_960, help="for the speed of tokenising and packing")
    parser.add_argument("--long-records", type=int, default=5_120, help="for the speed of the selection")
    parser.add_argument("--grow-to", type=int, default=1_000_000, help="examples, from a tenth of them, for the driver's memory")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        task, data, num_cpus = arguments.measure
        sys.stdout.write(json.dumps(measure(task, Path(data), int(num_cpus))) + "\n")
        return
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        kinds = {
            "prepare": write_parts(root, "records", arguments.records, make_records(ROWS_PER_PART), SELECTED_SCHEMA),
            "select": write_parts(root, "long", arguments.long_records, long_records(), RECORD_SCHEMA, LONG_ROWS_PER_PART),
        }
        for task, data in kinds.items():
            one, two = (measured(task, data, num_cpus) for num_cpus in (1, 2))
            figures[task] = {"one_cpu": one, "two_cpus": two, "speedup": two["per_s"] / one["per_s"]}
        sizes = (arguments.grow_to // 10, arguments.grow_to)
        few, many = (measured("prepare", write_parts(root, "short", size, short_records(), SELECTED_SCHEMA), 2) for size in sizes)
        growth = (many["driver_mib"] - few["driver_mib"]) * 2**20 / (sizes[1] - sizes[0])
        figures["memory"] = {"few": few, "many": many, "ratio": many["driver_mib"] / few["driver_mib"], "bytes_per_example": growth}
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
