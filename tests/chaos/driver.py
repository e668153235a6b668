"""Runs a generation with fake engines on a running Ray, and dies where it is told to: what the chaos tests start and kill.

`python -m tests.chaos.driver RUN_DIR RAY_ADDRESS [STEP before|after]`: STEP counts the calls of os.fsync, os.replace and os.rename in this
process; at that call it ends as if its machine had lost power, before or after the call is made.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from cgd_ray.config import Config
from cgd_ray.generation.pipeline import generate
from cgd_ray.rundir import RunDir
from tests.fakes import FakeEngines

LATENCY_S = 0.1


def make_config(root: Path) -> Config:
    """Small blocks, two engines a role, so that there is something to kill at any moment."""
    placement = {"cpus_per_replica": 0.5, "requests_in_flight": 8, "min_replicas": 2, "max_replicas": 2}
    role = {"model": "nobody/fake", "sampling": {"max_tokens": 24}, "placement": placement}
    tree = {"run_dir": str(root), "problems": {"path": "unused"}, "student": role, "teacher": role}
    return Config.model_validate({**tree, "generation": {"batch_size": 4, "rows_per_block": 8}})


def die_at(step: int, moment: str) -> None:
    """Wrap the calls by which files become durable, so that the process ends at the given one."""
    count = 0

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == step and moment == "before":
                os._exit(9)
            result = call(*arguments, **keywords)
            if count == step:
                os._exit(9)
            return result

        return counting

    for name in ("fsync", "replace", "rename"):
        setattr(os, name, wrapped(getattr(os, name)))


def main() -> None:
    """Generate, and say how many durable steps that took."""
    root, address, *death = sys.argv[1:]
    ray.init(address=address, log_to_driver=False)
    if death:
        die_at(int(death[0]), death[1])
    else:
        die_at(0, "never")
    generate(make_config(Path(root)), RunDir(root), engine_factory=FakeEngines(latency_s=LATENCY_S))


if __name__ == "__main__":
    main()
