"""What live mode gains: generation and training at the same time, against one after the other and against the longer of the two.

`python -m benchmarks.live --json build/live.json` (four minutes on two CPU cores). Engines that only wait, a lognormal time that is a
function of each turn's seed, stand for accelerators; they leave the CPU to the training, which is a real one of the embedded student by one
worker. Both ways start from nothing and end with an exported student; their times contain the start of Ray's actors and workers.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from benchmarks.engines import SlowEngines
from benchmarks.pipeline_overhead import write_work_list
from cgd_ray.config import Config
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import RunDir, read_manifest
from cgd_ray.generation.pipeline import generate
from cgd_ray.runs.live import run_live
from cgd_ray.selection.selection import select_records
from cgd_ray.training.driver import train
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.examples.writing import make_examples
from cgd_ray.training.job import TrainJob
from cgd_ray.training.observe.metrics import read_metrics

NUM_CPUS = 2
STUDENT = Path("examples/tinymath/models/student").absolute()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What both ways have in common."""

    rows: int
    places: int
    median_s: float
    sigma: float

    def config(self, root: Path, streaming: bool) -> Config:
        """One engine a role and one worker."""
        placement = {"cpus_per_replica": 0.5, "requests_in_flight": self.places}
        student, teacher = (
            {"model": str(STUDENT), "sampling": {"max_tokens": 64, "seed": seed}, "placement": placement} for seed in (0, 1)
        )
        training = {
            "streaming": streaming,
            "precision": "bf16",
            "context_length": 1024,
            "global_batch_size": 4,
            "micro_batch_size": 4,
            "learning_rate": 1e-4,
        }
        tree = {"run_dir": str(root), "problems": {"path": "unused"}, "student": student, "teacher": teacher, "training": training}
        return Config.model_validate({**tree, "generation": {"batch_size": 8, "rows_per_block": 8, "teacher_check": None}})

    def engines(self, root: Path) -> SlowEngines:
        """The same times in both ways."""
        return SlowEngines(median_s=self.median_s, sigma=self.sigma, times=root / "times", num_engines=2)


def staged_s(setting: Setting, root: Path) -> dict[str, float]:
    """Seconds of each stage, one after the other."""
    config, run = setting.config(root, streaming=False), RunDir(root)
    training, model = config.training, config.student.model
    write_work_list(run.work_list, setting.rows)

    def select_and_pack() -> None:
        select_records(config.selection, run.records, run.selected, lambda rows: None)
        make_examples(training, Chat.load(model), Prompts(), run.selected, run.examples)
        pack(training.context_length, run.examples, run.packed)

    stages: dict[str, Callable[[], Any]] = {
        "generate": lambda: generate(config, run, engine_factory=setting.engines(root)),
        "select_and_pack": select_and_pack,
        "train": lambda: train(TrainJob.of(config, run)),
    }
    return {name: _seconds(stage) for name, stage in stages.items()}


def live_s(setting: Setting, root: Path) -> float:
    """Seconds of both at the same time."""
    config, run = setting.config(root, streaming=True), RunDir(root)
    write_work_list(run.work_list, setting.rows)
    seconds = _seconds(lambda: run_live(config, run, engine_factory=setting.engines(root)))
    packed = read_manifest(run.packed)
    assert packed is not None, "the run is finished"
    files = [run.packed / part["path"] for part in packed["parts"]]
    names = [name for file in files for row in pq.read_table(file)["record_ids"].to_pylist() for name in row]
    assert sorted(names) == sorted(pq.read_table(run.work_list)["record_id"].to_pylist()), "each example should be trained once"
    assert len(read_metrics(run.metrics)) == packed["steps"]
    return seconds


def compare(setting: Setting) -> dict[str, Any]:
    """Both ways."""
    import ray

    with tempfile.TemporaryDirectory() as directory:
        ray.init(address="local", num_cpus=NUM_CPUS, include_dashboard=False, log_to_driver=False)
        load_before = psutil.getloadavg()[0]
        staged = staged_s(setting, Path(directory) / "staged")
        live = live_s(setting, Path(directory) / "live")
        ray.shutdown()
    return {
        "wall_over_max": live / max(staged["generate"], staged["train"]),
        "speedup_over_staged": sum(staged.values()) / live,
        "live_s": live,
        "staged_s": staged,
        "rows": setting.rows,
        "places": setting.places,
        "latency": {"median_s": setting.median_s, "sigma": setting.sigma},
        "hardware": {"cpus": psutil.cpu_count(), "ray_cpus": NUM_CPUS, "load_average_before": load_before},
        "versions": {"python": platform.python_version(), "ray": ray.__version__},
    }


def _seconds(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--places", type=int, default=8)
    parser.add_argument("--median-s", type=float, default=0.2, help="of a turn")
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    setting = Setting(rows=arguments.rows, places=arguments.places, median_s=arguments.median_s, sigma=arguments.sigma)
    result = compare(setting)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    lines = [f"{name:<20}{seconds:>8.1f} s" for name, seconds in {**result["staged_s"], "live": result["live_s"]}.items()]
    lines += [f"{name:<20}{result[name]:>8.2f}" for name in ("wall_over_max", "speedup_over_staged")]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
