"""The table of docs/recipes.md: what `cgd plan` says of each recipe on its cluster. `python -m benchmarks.recipe_plans` prints it."""

import re
import sys
from pathlib import Path

from cgd_ray.config import read_config
from cgd_ray.planning.hardware import Machine, Machines
from cgd_ray.planning.plan import Plan, make_plan
from cgd_ray.planning.ranges import Range
from cgd_ray.planning.times.estimate import gpu_hours

GIB = 2**30
RECIPES = Path("jobs/configs/recipes")
HOSTS = {"H100": {"cpus": 192, "memory_gib": 2000}, "A100": {"cpus": 96, "memory_gib": 1000}}
HEAD = "| recipe | cluster | generate, h | train, h | evaluate, h | GPU-hours | GPUs' or API's money | a rank, GiB | run directory, GiB |"


def cluster_of(recipe: Path) -> tuple[str, Machines]:
    """What the head says after "For", wherever its lines break."""
    head = " ".join(line.removeprefix("# ") for line in recipe.read_text(encoding="utf-8").partition("\nrun_dir")[0].splitlines())
    found = re.search(r"For (\d) nodes? of (\d) x (\w+)-80GB", head)
    assert found is not None, f"{recipe} names no cluster"
    machine = Machine.model_validate({"count": found[1], "gpus": found[2], "gpu": found[3], **HOSTS[found[3]]})
    return f"{found[1]} x {found[2]} {found[3]}", Machines(nodes=(machine,))


def row(recipe: Path) -> str:
    name, machines = cluster_of(recipe)
    plan = make_plan(read_config(recipe), machines)
    assert plan.refusal is None, plan.refusal
    seconds = {phase.name: phase.seconds for phase in plan.phases}
    hours = [_hours(found) if (found := seconds.get(phase)) is not None else "" for phase in ("generate", "train", "evaluate")]
    total = sum((amount for _, amount in gpu_hours(list(plan.phases))), Range.exactly(0.0))
    memory, storage = plan.rank.device_bytes / GIB, plan.storage.total.likely / GIB
    return f"| {recipe.stem} | {name} | {' | '.join(hours)} | {_range(total)} | {_range(_money(plan))} | {memory:.0f} | {storage:.0f} |"


def _money(plan: Plan) -> Range:
    return sum((phase.money for phase in plan.phases if phase.money is not None), Range.exactly(0.0))


def _hours(seconds: Range) -> str:
    return _range(seconds / 3600)


def _range(value: Range) -> str:
    return f"{_short(value.likely)} ({_short(value.low)} to {_short(value.high)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def main() -> None:
    lines = [HEAD, "|---|---|---:|---:|---:|---:|---:|---:|---:|", *(row(recipe) for recipe in sorted(RECIPES.glob("*.yaml")))]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
