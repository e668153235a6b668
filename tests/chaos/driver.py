"""Runs a generation on a running Ray, and dies where it is told to: what the chaos tests start and kill.

`python -m tests.chaos.driver RUN_DIR RAY_ADDRESS [--rows N] [--vllm] [--reuse RECORDS] [--die driver|workers CALL STEP before|after]`: this
process, or the first of Ray's that gets there, ends before or after its STEP-th CALL, which is one of dying.CALLS or `any` of them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray import cloudpickle

from cgd_ray.config import Config
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.data.rundir import RunDir
from cgd_ray.generation.pipeline import generate
from cgd_ray.problems.work_list import make_work_list, write_work_list
from tests.chaos import dying
from tests.fakes import FakeEngines

LATENCY_S = 0.05
JOURNAL = "answers"
"""In the run directory: what the fake engines have answered."""
TINYMATH = Path("examples/tinymath/models").absolute()


def make_config(root: Path, reuse: Sequence[str] = (), vllm: bool = False) -> Config:
    """Small blocks and, but for vLLM, two engines a role, so that there is something to kill at any moment."""
    replicas = 1 if vllm else 2
    placement = {"cpus_per_replica": 0.5, "requests_in_flight": 8, "min_replicas": replicas, "max_replicas": replicas}

    def role(name: str) -> dict[str, Any]:
        fake = {"model": "nobody/fake"}
        # float32, since in bfloat16 the size of the batch decides ties between two tokens
        real = {"model": str(TINYMATH / name), "context_length": 1024, "engine": {"dtype": "float32"}}
        return {**(real if vllm else fake), "sampling": {"max_tokens": 192}, "placement": placement}

    tree = {"run_dir": str(root), "problems": {"path": "unused"}, "student": role("student"), "teacher": role("teacher")}
    return Config.model_validate({**tree, "generation": {"batch_size": 4, "rows_per_block": 8, "reuse": list(reuse)}})


def prepare(config: Config, run: RunDir, num_rows: int) -> None:
    """What a run writes before its first stage."""
    run.check(config)
    run.claim(config)
    rows = [{"problem_id": f"p{number}", "question": f"What is {number} + 1?"} for number in range(num_rows)]
    write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples=1), run.work_list)


def main() -> None:
    """Generate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("address")
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--reuse", nargs="*", default=[])
    parser.add_argument("--die", nargs=4, metavar=("WHERE", "CALL", "STEP", "MOMENT"))
    options = parser.parse_args()
    config, run = make_config(options.root, options.reuse, options.vllm), RunDir(options.root)
    where, call, step, moment = options.die or ("nowhere", "any", "0", "never")
    certificate = options.root / "died" if where == "workers" else None

    def arrange() -> None:
        dying.die_at(list(dying.CALLS) if call == "any" else [call], int(step), moment, certificate)

    cloudpickle.register_pickle_by_value(dying)  # Ray's processes call it before they can import it
    hook = {"worker_process_setup_hook": arrange} if where == "workers" else None
    ray.init(address=options.address, log_to_driver=False, runtime_env=hook)
    if where == "driver":
        arrange()
    prepare(config, run, options.rows)
    engines = None if options.vllm else FakeEngines(latency_s=LATENCY_S, journal=str(run.root / JOURNAL))
    generate(config, run, engine_factory=engines)


if __name__ == "__main__":
    main()
