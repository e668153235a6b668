"""The command that says what a run needs before anything starts: plan."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cgd_ray.commands.options import EXIT_REFUSED, add_config, added, loaded, positive, say

if TYPE_CHECKING:
    from cgd_ray.config import Config
    from cgd_ray.planning.hardware import Machines

PLAN = "whether a run fits on a cluster, how long it takes, what it costs, and the smallest change that mends what does not fit"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add it."""
    plan = added(commands, "plan", PLAN, _plan)
    add_config(plan)
    where = plan.add_mutually_exclusive_group()
    where.add_argument("--cluster", metavar="FILE", help="YAML file that states the machines; docs/operations.md says how")
    where.add_argument("--address", metavar="ADDRESS", help="of a running Ray cluster; this machine if neither is given")
    earlier = plan.add_mutually_exclusive_group()
    earlier.add_argument(
        "--pilot", type=positive, metavar="N", help="run N problems here first, in RUN_DIR-pilot, and plan by what they took"
    )
    earlier.add_argument(
        "--like", type=Path, metavar="RUN_DIR", help="an earlier run on the same hardware: its lengths and times are taken"
    )
    plan.add_argument("--output", type=Path, metavar="FILE", help="where to write plan.json; nowhere if left out")


def _plan(parsed: argparse.Namespace) -> int:
    config = loaded(parsed)
    from cgd_ray.planning.plan import make_plan
    from cgd_ray.planning.table import lines_of

    like = parsed.like if parsed.pilot is None else _piloted(config, parsed.pilot)
    plan = make_plan(config, _machines(parsed, config), like)
    for line in lines_of(plan, config):
        say(line)
    if parsed.output is not None:
        from cgd_ray.data.rundir import write_json

        write_json(parsed.output, plan.as_dict())
    return 0 if plan.refusal is None else EXIT_REFUSED


def _piloted(config: "Config", num_problems: int) -> Path:
    """The directory of a run on a few problems, made now; its records are kept."""
    from cgd_ray.runs.pilot import kept_records, pilot

    like = pilot(config, num_problems)
    say(f"the pilot's records are kept: {kept_records(config)} takes them")
    return like


def _machines(parsed: argparse.Namespace, config: "Config") -> "Machines":
    """The machines that the plan is for."""
    from cgd_ray.planning.hardware import machines_of, read_machines, this_machine

    if parsed.cluster is not None:
        return read_machines(parsed.cluster)
    if parsed.address is None:
        return this_machine(config.cluster.num_cpus)
    from cgd_ray.cluster.connection import connected

    with connected(config.cluster.model_copy(update={"address": parsed.address})) as resources:
        return machines_of(resources)
