"""A run on a few of its problems, all stages, in a directory beside it: what it took tells what the whole will take.

How to use: `like = pilot(config, 64)`; the whole run takes its records by `generation.reuse`.
"""

from pathlib import Path

from cgd_ray.config import Config
from cgd_ray.runs.run import execute


def pilot(config: Config, num_problems: int) -> Path:
    """Run it, or go on with it; returns its directory. Benchmarks are left out: they are whole or nothing."""
    evaluation = config.evaluation
    if evaluation is not None:
        own = None if evaluation.problems is None else evaluation.problems.model_copy(update={"limit": num_problems})
        evaluation = None if own is None else evaluation.model_copy(update={"problems": own, "benchmarks": ()})
    problems = config.problems.model_copy(update={"limit": min(num_problems, config.problems.limit or num_problems)})
    execute("run", config.model_copy(update={"run_dir": _directory(config), "problems": problems, "evaluation": evaluation}))
    return Path(_directory(config))


def kept_records(config: Config) -> str:
    """The override by which the whole run takes the pilot's records."""
    return f"generation.reuse=[{_directory(config)}/records]"


def _directory(config: Config) -> str:
    return f"{config.run_dir.rstrip('/')}-pilot"
