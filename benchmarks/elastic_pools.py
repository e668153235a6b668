"""GPU-seconds that engines hold without a row: pools that follow their work, beside pools of fixed size, on the same work and GPUs.

`python -m benchmarks.elastic_pools --json build/elastic_pools.json` (about nine minutes). GPUs are logical; engines are stand-ins that
take `--start-s` to start and answer in lognormal times that are functions of their turns' seeds alone (sigma 1, as measured answers
have it, cut at eight times the median), the teacher's longer ones, of which a row has two. Ways:

- fixed: the GPUs halved between student and teacher, as who does not know their speeds would do;
- best fixed: divided as the latencies say it is best, which nobody knows beforehand;
- elastic: each role from one engine to all but one of the GPUs, in any division.

Held is what Ray has given away, looked at five times a second. An engine is idle while it is there and has no turn, by its own notes of its
turns and of its life; what is held beside that is starting: processes, which here share two cores, `--start-s`, and what Ray takes to
notice an end.
"""

import argparse
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.engines import SlowEngine, SlowEngines
from benchmarks.figures import write_figures
from benchmarks.pipeline_overhead import write_work_list
from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.rundir import RunDir
from cgd_ray.generation.pipeline import generate

PLACES = 16
"""Turns that an engine works on at once."""
LONGEST = 8.0
"""Times the median, at which answers are cut."""
LOOK_EVERY_S = 0.2
TURNS = {"student": 1, "teacher": 2}
Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all ways do."""

    rows: int
    gpus: int
    start_s: float
    student_s: float
    """Median of a turn."""
    teacher_s: float

    def engine_s(self, role: str) -> float:
        """Of an engine for a row, when all its places are taken, but for a factor that both roles share."""
        return TURNS[role] * (self.student_s if role == "student" else self.teacher_s) / PLACES

    def best_division(self) -> dict[str, Range]:
        """GPUs by role, in proportion to what a row takes there."""
        student, teacher = self.engine_s("student"), self.engine_s("teacher")
        for_student = min(max(1, round(self.gpus * student / (student + teacher))), self.gpus - 1)
        return {"student": (for_student,) * 2, "teacher": (self.gpus - for_student,) * 2}


@dataclass(frozen=True, kw_only=True)
class RoleEngines:
    """A factory of engines as slow as their role, which each note when they are at work."""

    work: Work
    notes: Path

    def __call__(self, role: RoleConfig) -> SlowEngine:
        name = role.model.rpartition("/")[2]
        median_s = self.work.student_s if name == "student" else self.work.teacher_s
        times, longest_s = self.notes / name, LONGEST * median_s
        engine = SlowEngines(median_s=median_s, sigma=1.0, longest_s=longest_s, times=times, start_s=self.work.start_s)(role)
        threading.Thread(target=live, args=(self.notes / "lives" / f"{name}-{os.getpid()}",), daemon=True).start()
        return engine


def live(note: Path) -> None:
    """Write down from when to when this process was there."""
    note.parent.mkdir(exist_ok=True)
    began = time.time()
    while True:
        note.write_text(f"{began} {time.time()}")
        time.sleep(LOOK_EVERY_S)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One way's, in GPU-seconds but for the first."""

    seconds: float
    held: float
    there: float
    """Of engines that have started."""
    busy: float
    engines: int
    """That were started."""

    @property
    def starting(self) -> float:
        """What was held by engines that were not there, yet or any more."""
        return max(0.0, self.held - self.there)

    @property
    def idle_share(self) -> float:
        """Of what was held."""
        return max(0.0, self.there - self.busy) / self.held


def measure(work: Work, ranges: Mapping[str, Range]) -> Figures:
    """Generate once with pools of these ranges."""
    with tempfile.TemporaryDirectory() as directory:
        run, notes = RunDir(Path(directory) / "run"), Path(directory) / "notes"
        write_work_list(run.work_list, work.rows)
        with _logical_gpus(work.gpus):
            started = time.monotonic()
            with _held_gpu_s(work.gpus) as held:
                manifest = generate(_config(run.root, ranges), run, engine_factory=RoleEngines(work=work, notes=notes))
            seconds = time.monotonic() - started
        assert (manifest["rows"], manifest["failed"]) == (work.rows, 0), "these engines fail no row"
        lives = list((notes / "lives").iterdir())
        there, busy = sum(map(covered_s, lives)), sum(map(covered_s, (file for role in TURNS for file in (notes / role).iterdir())))
    return Figures(seconds=seconds, held=held[0], there=there, busy=busy, engines=len(lives))


def covered_s(notes: Path) -> float:
    """Seconds in at least one of the intervals of a file."""
    total, end = 0.0, 0.0
    for start, stop in sorted(tuple(map(float, line.split())) for line in notes.read_text().splitlines()):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _config(root: Path, ranges: Mapping[str, Range]) -> Config:
    roles = {name: _role(name, *ranges[name]) for name in TURNS}
    return Config.model_validate(
        {"run_dir": str(root), "problems": {"path": "unused"}, "generation": {"batch_size": 4, "teacher_check": None}, **roles}
    )


def _role(name: str, fewest: int, most: int) -> dict[str, Any]:
    replicas = {"min_replicas": fewest, "max_replicas": most, "gpus_per_replica": 1, "cpus_per_replica": 0.1}
    return {"model": f"nobody/{name}", "placement": {**replicas, "requests_in_flight": PLACES}}


@contextmanager
def _logical_gpus(count: int) -> Iterator[None]:
    import ray

    ray.init(num_cpus=count, num_gpus=count, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _held_gpu_s(gpus: int) -> Iterator[list[float]]:
    """GPU-seconds that Ray has given away while the body runs."""
    import ray

    held, finished = [0.0], threading.Event()

    def look() -> None:
        before = time.monotonic()
        while not finished.wait(LOOK_EVERY_S):
            taken, now = gpus - ray.available_resources().get("GPU", 0.0), time.monotonic()
            held[0] += taken * (now - before)
            before = now

    thread = threading.Thread(target=look, name="gpus", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        finished.set()
        thread.join()


def compare(work: Work) -> dict[str, Any]:
    """All ways, one after the other."""
    half = work.gpus // 2
    ways: dict[str, Mapping[str, Range]] = {
        "fixed": {"student": (half, half), "teacher": (work.gpus - half,) * 2},
        "best fixed": work.best_division(),
        "elastic": {"student": (1, work.gpus - 1), "teacher": (1, work.gpus - 1)},
    }
    measured = {}
    for name, ranges in ways.items():
        measured[name] = figures = measure(work, ranges)
        sys.stdout.write(_line(name, figures))
        sys.stdout.flush()
    fixed, elastic = measured["fixed"], measured["elastic"]
    return {
        "elastic_idle_share": elastic.idle_share,
        "fixed_idle_share": fixed.idle_share,
        "seconds_ratio_fixed_to_elastic": fixed.seconds / elastic.seconds,
        "gpu_seconds_ratio_fixed_to_elastic": fixed.held / elastic.held,
        "ways": {name: {**asdict(figures), "idle_share": figures.idle_share, "ranges": ways[name]} for name, figures in measured.items()},
        "work": asdict(work),
        "versions": {"python": platform.python_version(), "ray": version("ray")},
    }


HEADER = f"{'way':<12}{'seconds':>9}{'GPU s held':>12}{'busy':>9}{'starting':>10}{'idle':>8}{'engines':>9}\n"


def _line(name: str, figures: Figures) -> str:
    return (
        f"{name:<12}{figures.seconds:>9.1f}{figures.held:>12.0f}{figures.busy:>9.0f}{figures.starting:>10.0f}{figures.idle_share:>8.1%}"
        f"{figures.engines:>9}\n"
    )


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--start-s", type=float, default=3.0)
    parser.add_argument("--student-s", type=float, default=0.3)
    parser.add_argument("--teacher-s", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = vars(parser.parse_args())
    path = arguments.pop("json")
    sys.stdout.write(HEADER)
    write_figures(compare(Work(**arguments)), path)


if __name__ == "__main__":
    main()
