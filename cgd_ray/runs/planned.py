"""The plan of a run once its cluster is known: told, kept, and a reason to end where it says that the run cannot work.

How to use: `tell_plan(config, resources, work_lists, run, say)` before any engine starts; `told(config, resources, say)` from elsewhere.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from cgd_ray.cluster.connection import Resources
from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir, write_json
from cgd_ray.planning.asked import Asked, sampled
from cgd_ray.planning.hardware import machines_of
from cgd_ray.planning.plan import Plan, make_plan
from cgd_ray.planning.table import verdict_of
from cgd_ray.process.console import last_line

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


def told(config: Config, resources: Resources, say: Say, asked: Asked | None = None) -> Plan | None:
    """Raises ValueError, one line, for a run that cannot work; of one that cannot be planned it says so, and returns None."""
    try:
        plan = make_plan(config, machines_of(resources), asked=asked)
    except Exception as error:  # what cannot be planned may still be run
        logger.warning("no plan was made", exc_info=True)
        say(f"no plan: {last_line(error)}")
        return None
    if plan.refusal is not None:
        raise ValueError(plan.refusal)
    for line in verdict_of(plan):
        say(line)
    return plan


def tell_plan(config: Config, resources: Resources, work_lists: Mapping[Path, pa.Table], run: RunDir, say: Say) -> None:
    """The same of a run that has read its problems, which keeps its plan."""
    work = work_lists[run.work_list]
    answers = sum(table.num_rows for path, table in work_lists.items() if path not in (run.work_list, run.validation_work_list))
    asked = Asked(num_problems=work.num_rows // config.generation.num_samples, questions=sampled(work), num_evaluated=answers)
    if (plan := told(config, resources, say, asked)) is not None:
        write_json(run.plan, plan.as_dict())
