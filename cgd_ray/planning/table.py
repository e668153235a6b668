"""A plan as a person reads it: a table of roles, memory, phases, and what is wrong with the change that mends it.

How to use: `for line in lines_of(plan, config): say(line)`.
"""

from collections.abc import Iterator

from cgd_ray.config import Config
from cgd_ray.planning.memory.serving import GIB, EngineMemory
from cgd_ray.planning.plan import Plan
from cgd_ray.planning.ranges import Range
from cgd_ray.planning.times.estimate import gpu_hours
from cgd_ray.process.console import NAME_WIDTH

LARGE = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def lines_of(plan: Plan, config: Config) -> Iterator[str]:
    """All of it."""
    yield _row("machines", str(plan.machines))
    yield from _models(plan, config)
    yield from _work(plan)
    yield from _training(plan, config)
    yield from _phases(plan)
    yield _row("storage", _storage(plan))
    yield ""
    yield from verdict_of(plan)


def verdict_of(plan: Plan) -> Iterator[str]:
    """What is wrong, worst first, and in one line whether the run can work."""
    for finding in plan.findings:
        yield f"{'refused: ' if finding.refuses else 'note: '}{finding}"
    if plan.refusal is not None:
        yield "plan: this cannot work"
        return
    engines = [f"an engine of the {name} {memory.total / GIB:.1f} GiB" for name, memory in plan.engines.items()]
    total = sum((phase.seconds for phase in plan.phases if phase.seconds is not None), Range.exactly(0.0))
    hours = dict(gpu_hours(list(plan.phases)))
    money = [phase.money for phase in plan.phases if phase.money is not None]
    words = [*engines, f"a rank {plan.rank.device_bytes / GIB:.1f} GiB"]
    words += [_time(total)] if total.likely else []
    words += [f"{_amount(sum(hours.values(), Range.exactly(0.0)))} GPU-hours"] if hours else []
    words += [f"{_amount(sum(money, Range.exactly(0.0)))} in money"] if money else []
    yield f"plan: fits; {', '.join(words)}"


def _row(name: str, text: str) -> str:
    return f"{name:<{NAME_WIDTH}} {text}"


def _models(plan: Plan, config: Config) -> Iterator[str]:
    for name in ("student", "teacher"):
        role = config.student if name == "student" else config.teacher
        if role.api is not None:
            yield _row(name, f"{role.model} at {role.api.base_url}")
            continue
        facts, memory = plan.facts[name], plan.engines.get(name)
        where = (
            f"{role.placement.gpus_of_replica:g} GPUs" if role.placement.gpus_per_replica else f"{role.placement.cpus_per_replica:g} CPUs"
        )
        held = "of a memory that is not known yet" if memory is None else f"{_held(memory)}, {plan.places[name]} requests at once"
        yield _row(
            name,
            f"{role.model}, {_number(facts.size.num_parameters)} parameters ({plan.sources[name]}); an engine on {where}: {held}; "
            f"{role.placement.min_replicas} to {role.placement.max_replicas} engines",
        )


def _held(memory: EngineMemory) -> str:
    return (
        f"{memory.weights / GIB:.1f} GiB weights + {memory.workspace / GIB:.1f} workspace + {max(0.0, memory.cache) / GIB:.1f} cache "
        f"= {memory.cached_tokens:,} tokens"
    )


def _work(plan: Plan) -> Iterator[str]:
    work = plan.work
    yield _row("rows", f"{work.rows:,}; lengths {plan.sources['lengths']}")
    for role in ("student", "teacher"):
        tokens = getattr(work, role)
        yield _row(
            f"{role} tokens", f"{_amount(tokens.prompt)} read, {_amount(tokens.cached)} more cached, {_amount(tokens.generated)} written"
        )


def _training(plan: Plan, config: Config) -> Iterator[str]:
    training, work = config.training, plan.work
    fewest, most = training.worker_range
    yield _row(
        "training",
        f"{_amount(work.examples)} examples of {_amount(work.example_tokens)} tokens, {work.target_share:.0%} of them targets; "
        f"{_amount(work.steps)} steps on {fewest if fewest == most else f'{fewest} to {most}'} workers, ZeRO-{training.zero_stage}",
    )
    for where, parts in (("GPU" if training.use_gpu else "process", plan.rank.device), ("host", plan.rank.host)):
        if parts:
            shown = ", ".join(f"{name} {amount / GIB:.1f}" for name, amount in parts.items() if amount >= 0.05 * GIB)
            yield _row(f"a rank's {where}", f"{sum(parts.values()) / GIB:.1f} GiB at most: {shown}")


def _phases(plan: Plan) -> Iterator[str]:
    for phase in plan.phases:
        time = "unknown" if phase.seconds is None else _time(phase.seconds)
        gpus = f" on {phase.gpus:g} GPUs" if phase.gpus else ""
        money = "" if phase.money is None else f", {_amount(phase.money)} in money"
        note = f"; {phase.note}" if phase.note else ""
        yield _row(phase.name, f"{time}{gpus}{money} ({phase.source}){note}")


def _storage(plan: Plan) -> str:
    kept = plan.storage
    return (
        f"{_bytes(kept.total.likely)} in all: records {_bytes(kept.records.likely)}, packed {_bytes(kept.packed.likely)}, checkpoints "
        f"{_bytes(kept.checkpoints)} ({_bytes(kept.checkpoint)} each, {_time(kept.save_seconds)} to write), student {_bytes(kept.student)}"
    )


def _time(seconds: Range) -> str:
    unit, name = (3600, "h") if seconds.likely >= 5400 else (60, "min") if seconds.likely >= 100 else (1, "s")
    return f"{_plain(seconds.likely / unit)} {name}{_bounds(seconds, unit)}"


def _amount(value: Range) -> str:
    return f"{_number(value.likely)}{_bounds(value, 1)}"


def _bounds(value: Range, unit: float) -> str:
    if value.low == value.high:
        return ""
    return f" ({_number(value.low / unit)} to {_number(value.high / unit)})"


def _number(value: float) -> str:
    for size, suffix in LARGE:
        if value >= size * (10 if size == 1e3 else 1):
            return f"{_plain(value / size)}{suffix}"
    return _plain(value)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: float) -> str:
    return f"{value / GIB:,.1f} GiB" if value >= 0.1 * GIB else f"{value / 2**20:,.1f} MiB"
