"""The time, the accelerator-hours and the money of each phase.

Time on GPUs comes from what bounds it (speeds.py), on CPUs, or wherever an earlier run on the same hardware is named, from that run's
ledger (earlier.py). How to use: `phases = Estimator(...).phases()`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cgd_ray.config import Config, RoleConfig
from cgd_ray.planning.hardware import Machines
from cgd_ray.planning.memory.serving import engine_memory
from cgd_ray.planning.models.facts import ModelFacts
from cgd_ray.planning.ranges import Range
from cgd_ray.planning.times.earlier import EarlierRun
from cgd_ray.planning.times.speeds import (
    ENGINE_START_S,
    TRAINING_START_S,
    EngineRate,
    engine_rate,
    reading_seconds,
    training_flops,
)
from cgd_ray.planning.work import Tokens, Work
from cgd_ray.training.observe.work import model_flops

LONGER_WHILE_RUNNING = 1.3
"""Tokens of a request halfway through, as the long ones are there for longest, over half of its answer."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What holds accelerators at the same time."""

    name: str
    seconds: Range | None
    """Of wall time; None where nothing tells it."""
    gpus: float
    """That it holds."""
    money: Range | None
    """Of its GPUs, or of an endpoint; None where no price is known."""
    source: str
    """Where the time comes from."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """All that the times follow from."""

    config: Config
    facts: dict[str, ModelFacts]
    machines: Machines
    work: Work
    earlier: EarlierRun | None

    def phases(self) -> list[Phase]:
        """Those that the config has, in their order."""
        generates = self.config.records is None
        found = [self._generation()] if generates else []
        found.append(self._training())
        if self.config.evaluation is not None:
            found.append(self._evaluation())
        return found

    def rate(self, name: str) -> EngineRate | None:
        """Of one engine of a role; None on CPUs, for endpoints and for GPUs that nobody knows."""
        role: RoleConfig = getattr(self.config, name)
        machine = self.machines.for_type(role.placement.accelerator_type)
        gpu = None if machine is None else machine.accelerator
        if role.api is not None or gpu is None or not role.placement.gpus_per_replica:
            return None
        context = self.context(name)
        places = engine_memory(role, self.facts[name], gpu.memory_bytes).places(context, role.placement.requests_in_flight)
        return engine_rate(role, self.facts[name], gpu, places, context) if places else None

    def context(self, name: str) -> float:
        """Tokens of a request of the role as it runs, on average."""
        tokens: Tokens = getattr(self.work, name)
        turns = 1 if name == "student" else 2
        each = (tokens.prompt + tokens.cached + tokens.generated * (0.5 * LONGER_WHILE_RUNNING)).likely
        return each / max(1, self.work.rows * turns)

    def engine_seconds(self, name: str) -> Range | None:
        """Of all engines of a role together."""
        rate, tokens = self.rate(name), getattr(self.work, name)
        return None if rate is None else rate.seconds(tokens.prompt, tokens.generated)

    def rows_per_s(self) -> float | None:
        """That all engines finish together once they run; None where nothing tells."""
        busy = {name: spent.likely for name in ("student", "teacher") if (spent := self.engine_seconds(name)) is not None}
        slowest = max((spent / getattr(self.config, name).placement.max_replicas for name, spent in busy.items()), default=0.0)
        return self.work.rows / slowest if slowest else None

    def _generation(self) -> Phase:
        config = self.config
        gpus = self._generating_gpus()
        if self.earlier is not None:
            seconds: Range | None = self.earlier.generation_seconds(config, self.work.rows)
            return Phase(name="generate", seconds=seconds, gpus=gpus, money=self._priced(seconds, gpus), source="earlier run")
        busy = {name: spent for name in ("student", "teacher") if (spent := self.engine_seconds(name)) is not None}
        if not busy:
            return Phase(name="generate", seconds=None, gpus=gpus, money=self.endpoint_money(), source="nothing: use --pilot 64")
        seconds = Range.exactly(0.0)
        for name, spent in busy.items():
            seconds = seconds.longest(spent / getattr(config, name).placement.max_replicas)
        both = [spent * getattr(config, name).placement.gpus_of_replica for name, spent in busy.items()]
        seconds = seconds.longest(sum(both, Range.exactly(0.0)) / max(1.0, gpus))
        seconds = seconds + ENGINE_START_S + max((reading_seconds(self.facts[name]) for name in busy), key=lambda spent: spent.likely)
        paid = self._priced(seconds, gpus)
        endpoint = self.endpoint_money()
        money = endpoint if paid is None else paid if endpoint is None else paid + endpoint
        return Phase(name="generate", seconds=seconds, gpus=gpus, money=money, source="roofline", note=self._bottleneck(busy))

    def _bottleneck(self, busy: dict[str, Range]) -> str:
        """The role that ends last, and how GPUs would be divided so that both end together."""
        if self.config.teacher.api is not None:
            return "the endpoint's own pace is not known"
        if len(busy) < 2:
            return ""
        placed = {name: getattr(self.config, name).placement for name in busy}
        ends = {name: spent.likely / placed[name].max_replicas for name, spent in busy.items()}
        slow = max(ends, key=lambda name: ends[name])
        work = {name: spent.likely * placed[name].gpus_of_replica for name, spent in busy.items()}
        all_gpus, total = self._all_gpus(), sum(work.values())
        split = {name: max(1, round(all_gpus * spent / total / placed[name].gpus_of_replica)) for name, spent in work.items()}
        best = ", ".join(f"{name}.placement.max_replicas={number}" for name, number in split.items())
        return f"{slow} is the slower role; soonest with about {best}"

    def _all_gpus(self) -> float:
        return float(sum(machine.gpus * (machine.most or machine.count) for machine in self.machines.nodes))

    def _generating_gpus(self) -> float:
        asked = 0.0
        for role in (self.config.student, self.config.teacher):
            asked += 0.0 if role.api is not None else role.placement.gpus_of_replica * role.placement.max_replicas
        return min(asked, self._all_gpus())

    def _training(self) -> Phase:
        training, facts = self.config.training, self.facts["student"]
        world_size = training.worker_range[1]
        gpus = float(world_size * training.use_gpu)
        if self.earlier is not None and self.earlier.steps:
            tokens, steps = self.work.trained_tokens.likely, round(self.work.steps.likely)
            seconds: Range | None = self.earlier.training_seconds(training, steps, tokens)
            return Phase(name="train", seconds=seconds, gpus=gpus, money=self._priced(seconds, gpus), source="earlier run")
        machine = self.machines.for_type(None)
        gpu = None if machine is None else machine.accelerator
        if gpu is None or not training.use_gpu:
            return Phase(name="train", seconds=None, gpus=gpus, money=None, source="nothing: name an earlier run with --like")
        work = self.work
        flops = Range(
            *(_flops(facts, work.target_share, *amounts) for amounts in zip(work.trained_tokens, work.example_tokens, strict=True))
        )
        seconds = flops / training_flops(training, gpu, world_size) + TRAINING_START_S + reading_seconds(facts)
        return Phase(name="train", seconds=seconds, gpus=gpus, money=self._priced(seconds, gpus), source="roofline")

    def _evaluation(self) -> Phase:
        role = self.config.student
        gpus = min(role.placement.gpus_of_replica * role.placement.max_replicas, self._all_gpus())
        if self.earlier is not None:
            seconds: Range | None = self.earlier.evaluation_seconds(self.work.answers)
            return Phase(name="evaluate", seconds=seconds, gpus=gpus, money=self._priced(seconds, gpus), source="earlier run")
        rate = self.rate("student")
        if rate is None:
            return Phase(name="evaluate", seconds=None, gpus=gpus, money=None, source="nothing: name an earlier run with --like")
        seconds = self.work.answer_tokens / rate.output / role.placement.max_replicas
        seconds = seconds + 2 * (ENGINE_START_S + reading_seconds(self.facts["student"]))
        return Phase(name="evaluate", seconds=seconds, gpus=gpus, money=self._priced(seconds, gpus), source="roofline")

    def _priced(self, seconds: Range | None, gpus: float) -> Range | None:
        machine = self.machines.for_type(None)
        if seconds is None or machine is None or machine.gpu_price is None or not gpus:
            return None
        return seconds * (gpus * machine.gpu_price / 3600)

    def endpoint_money(self) -> Range | None:
        """What an endpoint asks for the teacher's tokens."""
        api = self.config.teacher.api
        if api is None or api.price_per_million_input_tokens is None or api.price_per_million_output_tokens is None:
            return None
        tokens, fresh = self.work.teacher, api.price_per_million_input_tokens
        cached = fresh if api.price_per_million_cached_tokens is None else api.price_per_million_cached_tokens
        return (tokens.prompt * fresh + tokens.cached * cached + tokens.generated * api.price_per_million_output_tokens) / 1e6


def _flops(facts: ModelFacts, target_share: float, tokens: float, example_tokens: float) -> float:
    """Of a training on so many tokens, in examples of so many each."""
    return model_flops(facts.size, round(tokens), round(tokens * target_share), round(tokens * example_tokens))


def gpu_hours(phases: list[Phase]) -> Iterator[tuple[str, Range]]:
    """Of each phase whose time is known."""
    for phase in phases:
        if phase.seconds is not None and phase.gpus:
            yield phase.name, phase.seconds * (phase.gpus / 3600)
