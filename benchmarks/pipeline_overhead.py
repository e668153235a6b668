"""What the pipeline itself costs: a whole generation with engines that answer at once, for ever more rows.

`python -m benchmarks.pipeline_overhead --json build/overhead.json` (ten minutes on two CPU cores, most of them for the last size).
Each size runs in a process of its own with a Ray of its own on two CPUs. A record is finished when it leaves the teacher; `steady` is
from the first to the last finished record that the progress counts show. `driver_memory_growth` is the largest RSS of the driver during
`generate`, as psutil samples it, at the largest size by that at the smallest. On a machine that does other work besides, the seconds are
not the pipeline's alone: the CPU seconds of the driver and all its children are told too, and what other processes took of the machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engines import InstantEngine
from cgd_ray.cluster.connection import connected
from cgd_ray.config import ClusterConfig, Config
from cgd_ray.data.records import WORK_SCHEMA, make_record_id
from cgd_ray.data.rundir import RunDir, atomic_write
from cgd_ray.generation.progress import ROWS

NUM_CPUS = 2
SAMPLE_INTERVAL_S = 0.1
ROWS_AT_ONCE = 5_000  # of the work list that is made here, so that its making leaves no large memory behind
RESULT_PREFIX = "RESULT "


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One size."""

    rows: int
    steady_records_per_s: float
    """From the first to the last finished record."""
    records_per_s: float
    """In all: rows by the seconds of `generate`, with the actors' start and the last check."""
    cpu_us_per_record: float
    """CPU time of the driver and its children in the steady phase, of processes that lived to be seen."""
    driver_us_per_record: float
    """Of that, the driver's own, which no number of nodes divides."""
    others_share: float
    """Share of the machine's CPU time that other processes took in the steady phase."""
    rss_before_mib: float
    rss_growth_mib: float
    seconds: float


@dataclass
class Watch:
    """Takes (time, finished records, own CPU seconds, the driver's of them, all CPU seconds) at each report of progress."""

    samples: list[tuple[float, int, float, float, float]] = field(default_factory=list)
    cpu_s: dict[int, float] = field(default_factory=dict)
    """Of each process that was ever seen, so that one that ends takes nothing away."""

    def __call__(self, counts: dict[str, int]) -> None:
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                self.cpu_s[process.pid] = sum(process.cpu_times()[:2])
        finished = counts[f"teacher{ROWS}"]
        if finished > (self.samples[-1][1] if self.samples else 0):
            self.samples.append((time.monotonic(), finished, sum(self.cpu_s.values()), self.cpu_s[os.getpid()], _machine_cpu_s()))

    def steady(self) -> tuple[float, int, float, float, float]:
        """Differences between the first and the last sample."""
        (t0, n0, own0, driver0, all0), (t1, n1, own1, driver1, all1) = self.samples[0], self.samples[-1]
        return t1 - t0, n1 - n0, own1 - own0, driver1 - driver0, all1 - all0


def make_config(root: Path, batch_size: int, rows_per_block: int) -> Config:
    """One engine a role, both of which fit two CPUs."""
    placement = {"cpus_per_replica": 0.5, "requests_in_flight": 128}
    role = {"model": "nobody/instant", "sampling": {"max_tokens": 64}, "placement": placement}
    tree = {"run_dir": str(root), "problems": {"path": "unused"}, "student": role, "teacher": role}
    return Config.model_validate(
        {**tree, "generation": {"batch_size": batch_size, "rows_per_block": rows_per_block, "teacher_check": None}}
    )


def write_work_list(path: Path, rows: int) -> None:
    """Questions of the length of school problems."""
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, WORK_SCHEMA) as writer:
        for start in range(0, rows, ROWS_AT_ONCE):
            chunk = [_work_row(number) for number in range(start, min(rows, start + ROWS_AT_ONCE))]
            writer.write_table(pa.Table.from_pylist(chunk, schema=WORK_SCHEMA))


def _work_row(number: int) -> dict[str, Any]:
    name = f"problem-{number}"
    question = f"Tom has {number} apples and buys {number * 7 % 31} more at the market. How many apples has he got now, and how many twice?"
    return {"record_id": make_record_id(name, 0), "sample_index": 0, "problem_id": name, "question": question, "reference_answer": "42"}


def measure(rows: int, batch_size: int, rows_per_block: int) -> Figures:
    """Generate so many records in this process, with a new Ray and a directory that is removed afterwards."""
    from cgd_ray.generation.pipeline import generate

    with tempfile.TemporaryDirectory() as directory:
        run = RunDir(directory)
        write_work_list(run.work_list, rows)
        with connected(ClusterConfig(num_cpus=NUM_CPUS)):
            watch, before = Watch(), _rss_mib()
            started = time.monotonic()
            with _peak_rss_mib() as peak:
                manifest = generate(make_config(run.root, batch_size, rows_per_block), run, watch, engine_factory=InstantEngine)
            seconds = time.monotonic() - started
    assert (manifest["rows"], manifest["failed"]) == (rows, 0), "an instant engine fails no row"
    steady_s, steady_rows, own_cpu_s, driver_cpu_s, all_cpu_s = watch.steady()
    return Figures(
        rows=rows,
        steady_records_per_s=steady_rows / steady_s,
        records_per_s=rows / seconds,
        cpu_us_per_record=1e6 * own_cpu_s / steady_rows,
        driver_us_per_record=1e6 * driver_cpu_s / steady_rows,
        others_share=max(0.0, all_cpu_s - own_cpu_s) / (steady_s * (psutil.cpu_count() or 1)),
        rss_before_mib=before,
        rss_growth_mib=peak[0] - before,
        seconds=seconds,
    )


def compare(sizes: Sequence[int], batch_size: int, rows_per_block: int) -> dict[str, Any]:
    """All sizes, each in a process of its own, and how the largest compares with the smallest."""
    figures = []
    for rows in sizes:
        command = [sys.executable, "-m", "benchmarks.pipeline_overhead", "--sizes", str(rows), "--in-this-process"]
        command += ["--batch-size", str(batch_size), "--rows-per-block", str(rows_per_block)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        line = next(line for line in output.splitlines() if line.startswith(RESULT_PREFIX))
        figures.append(Figures(**json.loads(line.removeprefix(RESULT_PREFIX))))
        sys.stdout.write(_line(figures[-1]))
        sys.stdout.flush()
    smallest, largest = figures[0], figures[-1]
    return {
        "records_per_s": largest.steady_records_per_s,
        "time_per_record_ratio_1m_to_10k": smallest.steady_records_per_s / largest.steady_records_per_s,
        "cpu_per_record_ratio_1m_to_10k": largest.cpu_us_per_record / smallest.cpu_us_per_record,
        "driver_memory_growth": _peak(largest) / _peak(smallest),
        "sizes": [asdict(each) for each in figures],
        "batch_size": batch_size,
        "rows_per_block": rows_per_block,
        "hardware": {"cpus": psutil.cpu_count(), "ray_cpus": NUM_CPUS, "memory_gib": psutil.virtual_memory().total / 2**30},
        "versions": _versions(),
    }


def _peak(figures: Figures) -> float:
    return figures.rss_before_mib + figures.rss_growth_mib


def _line(figures: Figures) -> str:
    return (
        f"{figures.rows:>10,}{figures.steady_records_per_s:>12,.0f}{figures.records_per_s:>10,.0f}{figures.cpu_us_per_record:>12,.0f}{figures.driver_us_per_record:>12,.0f}"
        f"{figures.others_share:>10.0%}{figures.rss_before_mib:>12,.0f}{figures.rss_growth_mib:>12,.1f}{figures.seconds:>10,.0f}\n"
    )


def _versions() -> dict[str, str]:
    import ray

    return {"python": platform.python_version(), "ray": ray.__version__, "pyarrow": pa.__version__}


def _rss_mib() -> float:
    rss: int = psutil.Process().memory_info().rss
    return rss / 2**20


@contextmanager
def _peak_rss_mib() -> Iterator[list[float]]:
    """One number, which grows while the body runs."""
    peak, finished = [_rss_mib()], threading.Event()

    def sample() -> None:
        while not finished.wait(SAMPLE_INTERVAL_S):
            peak[0] = max(peak[0], _rss_mib())

    thread = threading.Thread(target=sample, name="rss", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        finished.set()
        thread.join()


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    busy: float = times.user + times.nice + times.system + times.irq + times.softirq
    return busy


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--rows-per-block", type=int, default=4096)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_this_process:
        figures = measure(arguments.sizes[0], arguments.batch_size, arguments.rows_per_block)
        sys.stdout.write(f"{RESULT_PREFIX}{json.dumps(asdict(figures))}\n")
        return
    heads = (
        f"{'rows':>10}{'steady/s':>12}{'in all/s':>10}{'CPU us/rec':>12}{'others':>10}{'RSS before':>12}{'RSS growth':>12}{'seconds':>10}\n"
    )
    sys.stdout.write(heads)
    result = compare(sorted(arguments.sizes), arguments.batch_size, arguments.rows_per_block)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name in ("records_per_s", "time_per_record_ratio_1m_to_10k", "cpu_per_record_ratio_1m_to_10k", "driver_memory_growth"):
        sys.stdout.write(f"{name:<34}{result[name]:>12,.2f}\n")


if __name__ == "__main__":
    main()
