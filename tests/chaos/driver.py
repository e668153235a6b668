"""Runs a generation with fake engines on a running Ray, and dies where it is told to: what the chaos tests start and kill.

`python -m tests.chaos.driver RUN_DIR RAY_ADDRESS [--reuse RECORDS] [--die driver|workers CALL STEP before|after]`: this process, or the
first of Ray's that gets there, ends before or after its STEP-th CALL, which is one of dying.CALLS or `any` of them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import ray
from ray import cloudpickle

from cgd_ray.config import Config
from cgd_ray.generation.pipeline import generate
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.records import PROBLEM_SCHEMA
from cgd_ray.rundir import RunDir
from tests.chaos import dying
from tests.fakes import FakeEngines

LATENCY_S = 0.1
NUM_ROWS = 160


def make_config(root: Path, reuse: Sequence[str] = ()) -> Config:
    """Small blocks, two engines a role, so that there is something to kill at any moment."""
    placement = {"cpus_per_replica": 0.5, "requests_in_flight": 8, "min_replicas": 2, "max_replicas": 2}
    role = {"model": "nobody/fake", "sampling": {"max_tokens": 24}, "placement": placement}
    tree = {"run_dir": str(root), "problems": {"path": "unused"}, "student": role, "teacher": role}
    return Config.model_validate({**tree, "generation": {"batch_size": 4, "rows_per_block": 8, "reuse": list(reuse)}})


def prepare(config: Config, run: RunDir) -> None:
    """What a run writes before its first stage."""
    run.check(config)
    run.claim(config)
    rows = [{"problem_id": f"p{number}", "question": f"What is {number} + 1?"} for number in range(NUM_ROWS)]
    write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples=1), run.work_list)


def main() -> None:
    """Generate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("address")
    parser.add_argument("--reuse", nargs="*", default=[])
    parser.add_argument("--die", nargs=4, metavar=("WHERE", "CALL", "STEP", "MOMENT"))
    options = parser.parse_args()
    config, run = make_config(options.root, options.reuse), RunDir(options.root)
    where, call, step, moment = options.die or ("nowhere", "any", "0", "never")
    certificate = options.root / "died" if where == "workers" else None

    def arrange() -> None:
        dying.die_at(list(dying.CALLS) if call == "any" else [call], int(step), moment, certificate)

    cloudpickle.register_pickle_by_value(dying)  # Ray's processes call it before they can import it
    hook = {"worker_process_setup_hook": arrange} if where == "workers" else None
    ray.init(address=options.address, log_to_driver=False, runtime_env=hook)
    if where == "driver":
        arrange()
    prepare(config, run)
    generate(config, run, engine_factory=FakeEngines(latency_s=LATENCY_S))


if __name__ == "__main__":
    main()
