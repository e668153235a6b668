"""A live run with fake engines and a real training, on a Ray of its own, in a process that can be killed.

`python -m tests.chaos.live_job RUN_DIR`: the late problems are answered only once the checkpoint of step HELD_UNTIL_STEP is there, so
generation and training are under way together at that moment, however fast the machine is.
"""

import sys
from pathlib import Path

import pyarrow as pa
import ray

from cgd_ray.config import Config
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.data.rundir import RunDir, write_json
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.process.stopping import EXIT_STOPPED, StoppedError, stopped_by_signals
from cgd_ray.runs.live import run_live
from cgd_ray.training.checkpoints.store import directory_of
from tests.fakes import FakeEngines

NUM_EARLY, NUM_LATE = 40, 20
LATE = "late"  # in the question
HELD_UNTIL_STEP = 2
STUDENT = Path("examples/tinymath/models/student").absolute()


def make_config(root: Path) -> Config:
    """Small parts, small steps, two workers."""
    placement = {"cpus_per_replica": 0.5, "requests_in_flight": 16}
    role = {"model": str(STUDENT), "sampling": {"max_tokens": 24}, "placement": placement, "request_timeout_s": 300}
    training = {
        "streaming": True,
        "context_length": 1024,
        "global_batch_size": 4,
        "learning_rate": 1e-4,
        "precision": "fp32",
        "num_workers": 2,
        "checkpoint_every_steps": 2,
        "keep_checkpoints": 9,
    }
    tree = {"run_dir": str(root), "problems": {"path": "unused"}, "student": role, "teacher": role, "training": training}
    return Config.model_validate({**tree, "generation": {"batch_size": 4, "rows_per_block": 4}})


def prepared(root: Path) -> RunDir:
    """A run directory with its work list."""
    run = RunDir(root)
    rows = [
        {"problem_id": f"p{number}", "question": f"{LATE if number >= NUM_EARLY else 'early'}: what is {number} + 1?"}
        for number in range(NUM_EARLY + NUM_LATE)
    ]
    write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples=1), run.work_list)
    return run


def engines(run: RunDir) -> FakeEngines:
    """Whose generation the training must have begun in."""
    return FakeEngines(latency_s=0.1, held=LATE, until=str(directory_of(run.checkpoints, HELD_UNTIL_STEP) / "manifest.json"))


def main(root: Path) -> None:
    """Run to the end, or to SIGTERM."""
    run = RunDir(root)
    ray.init(address="local", num_cpus=3, include_dashboard=False)
    try:
        with stopped_by_signals():
            report = run_live(make_config(root), run, engine_factory=engines(run))
    except StoppedError:
        ray.shutdown()
        sys.exit(EXIT_STOPPED)
    write_json(run.training_report, report)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
