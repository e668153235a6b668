"""A run on a few of its problems, all stages, in a directory beside it: what it took tells what the whole will take.

How to use: `like = pilot(config, 64)`; the whole run takes its records by `generation.reuse`.
"""

from pathlib import Path

from cgd_ray.config import Config
from cgd_ray.runs.remote.working_copy import directory_of
from cgd_ray.runs.run import execute

WHOLE = {"streaming": False, "steps_per_epoch": None, "validation": None, "export": "last"}
"""Settings of a training that a few problems may be too few for, or that hide what it takes, and what a pilot has in their place."""


def pilot(config: Config, num_problems: int) -> Path:
    """Run it, or go on with it; returns its directory on disk. Benchmarks are left out: they are whole or nothing."""
    evaluation = config.evaluation
    if evaluation is not None:
        own = None if evaluation.problems is None else evaluation.problems.model_copy(update={"limit": num_problems})
        evaluation = None if own is None else evaluation.model_copy(update={"problems": own, "benchmarks": ()})
    changed = {
        "run_dir": _run_dir(config),
        "problems": config.problems.model_copy(update={"limit": min(num_problems, config.problems.limit or num_problems)}),
        "evaluation": evaluation,
        "training": config.training.model_copy(update=WHOLE),
    }
    small = config.model_copy(update=changed)
    execute("run", small)
    return directory_of(small)


def kept_records(config: Config) -> str:
    """The override by which the whole run takes the pilot's records."""
    return f"generation.reuse=[{directory_of(config.model_copy(update={'run_dir': _run_dir(config)}))}/records]"


def _run_dir(config: Config) -> str:
    return f"{config.run_dir.rstrip('/')}-pilot"
