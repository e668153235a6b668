"""A plan: what follows from a config and a cluster, before anything starts.

How to use: `plan = make_plan(config, machines, like=None)`; `plan.refusal`, `plan.as_dict()`; table.py prints one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from cgd_ray.config import Config, RoleConfig
from cgd_ray.planning.asked import Asked, asked_of
from cgd_ray.planning.checks.findings import Finding, contexts, memory_of_engine, memory_of_training, money_of_endpoint, pace_of_driver
from cgd_ray.planning.checks.placement import placement
from cgd_ray.planning.hardware import PRICES_OF, STALE_AFTER_DAYS, Machines
from cgd_ray.planning.lengths import Lengths, measured_or_assumed
from cgd_ray.planning.memory.serving import EngineMemory, engine_memory
from cgd_ray.planning.memory.training import RankMemory, training_memory
from cgd_ray.planning.models.facts import ModelFacts, facts_of
from cgd_ray.planning.storage import Storage, storage_of
from cgd_ray.planning.times.earlier import ENOUGH, EarlierRun
from cgd_ray.planning.times.estimate import Estimator, Phase
from cgd_ray.planning.work import Work


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be told."""

    machines: Machines
    facts: Mapping[str, ModelFacts]
    """By role; an endpoint's model has none."""
    sources: Mapping[str, str]
    """Where each number comes from."""
    lengths: Lengths
    work: Work
    engines: Mapping[str, EngineMemory]
    """By role; without those whose memory nobody knows."""
    places: Mapping[str, int]
    """Requests at once, of one engine of each role."""
    rank: RankMemory
    """Of one rank of the training."""
    phases: Sequence[Phase]
    storage: Storage
    findings: Sequence[Finding]

    @property
    def refusal(self) -> str | None:
        """The first reason why the run cannot work; None where it can."""
        return next((str(finding) for finding in self.findings if finding.refuses), None)

    def as_dict(self) -> dict[str, Any]:
        """What plan.json holds."""
        return {
            "machines": self.machines.model_dump(mode="json"),
            "models": {name: facts.as_dict() for name, facts in self.facts.items()},
            "sources": dict(self.sources),
            "rows": self.work.rows,
            "tokens": {
                role: {kind: getattr(getattr(self.work, role), kind).as_dict() for kind in ("prompt", "cached", "generated")}
                for role in ("student", "teacher")
            },
            "examples": self.work.examples.as_dict(),
            "trained_tokens": self.work.trained_tokens.as_dict(),
            "steps": self.work.steps.as_dict(),
            "engines": {
                name: {"weights": memory.weights, "workspace": memory.workspace, "cache": memory.cache, "places": self.places[name]}
                for name, memory in self.engines.items()
            },
            "training_memory": {"device": dict(self.rank.device), "host": dict(self.rank.host)},
            "phases": [
                {
                    "name": phase.name,
                    "seconds": None if phase.seconds is None else phase.seconds.as_dict(),
                    "gpus": phase.gpus,
                    "money": None if phase.money is None else phase.money.as_dict(),
                    "source": phase.source,
                }
                for phase in self.phases
            ],
            "storage": self.storage.as_dict(),
            "findings": [
                {"text": finding.text, "overrides": dict(finding.overrides), "refuses": finding.refuses} for finding in self.findings
            ],
        }


def make_plan(config: Config, machines: Machines, like: Path | None = None, asked: Asked | None = None) -> Plan:
    """`like` is the directory of an earlier run on the same hardware, whose lengths and times are taken; `asked`, what is known already.

    Raises ValueError, one line, for what cannot be planned with: problems that cannot be read, a model without a config, an unknown GPU.
    """
    asked = asked or asked_of(config)
    counted = {name: facts_of(getattr(config, name).model) for name in ("student", "teacher") if getattr(config, name).api is None}
    facts = {name: found for name, (found, _) in counted.items()}
    lengths = measured_or_assumed(config, asked.questions, like)
    work = Work.of(config, asked.num_problems, asked.num_evaluated, lengths)
    earlier = None if like is None else EarlierRun.read(like)
    estimator = Estimator(config=config, facts=facts, machines=machines, work=work, earlier=earlier)
    phases = estimator.phases()
    engines = {name: memory for name in facts if (memory := _engine(_role(config, name), facts[name], machines)) is not None}
    places = {
        name: memory.places(estimator.context(name), _role(config, name).placement.requests_in_flight) for name, memory in engines.items()
    }
    return Plan(
        machines=machines,
        facts=facts,
        sources={**{name: source for name, (_, source) in counted.items()}, "lengths": lengths.source},
        lengths=lengths,
        work=work,
        engines=engines,
        places=places,
        rank=training_memory(config.training, facts["student"], config.training.worker_range[0], work.target_share),
        phases=phases,
        storage=storage_of(config, work, facts["student"]),
        findings=[
            *_found(config, machines, facts, lengths, work),
            *_small(earlier),
            *pace_of_driver(config, estimator.rows_per_s()),
            *money_of_endpoint(config, estimator.endpoint_money()),
            *(Finding(text=note) for note in asked.notes),
            *_stale(phases),
        ],
    )


def _found(config: Config, machines: Machines, facts: Mapping[str, ModelFacts], lengths: Lengths, work: Work) -> list[Finding]:
    """All that is wrong, what refuses first."""
    phases = ["live"] if config.training.streaming else [*(["generate"] if config.records is None else []), "train"]
    phases += ["evaluate"] if config.evaluation is not None else []
    prompts = {
        "student": (lengths.question + lengths.student_overhead).likely,
        "teacher": (lengths.question + lengths.shown("attempt") + lengths.shown("critique")).likely
        + lengths.teacher_overhead
        + lengths.refine_overhead,
    }
    found = [*placement(config, machines.resources, phases), *contexts(config, facts, prompts)]
    for name, model in facts.items():
        role = _role(config, name)
        found += memory_of_engine(name, role, model, machines.for_type(role.placement.accelerator_type))
    found += memory_of_training(config, facts["student"], machines, work.target_share)
    return sorted(found, key=lambda finding: not finding.refuses)


def _role(config: Config, name: str) -> RoleConfig:
    return config.student if name == "student" else config.teacher


def _engine(role: RoleConfig, facts: ModelFacts, machines: Machines) -> EngineMemory | None:
    """None for GPUs that are not there yet, so that nobody knows what they have."""
    if not role.placement.gpus_per_replica:
        return engine_memory(role, facts, None)
    machine = machines.for_type(role.placement.accelerator_type)
    gpu = None if machine is None else machine.accelerator
    return None if gpu is None else engine_memory(role, facts, gpu.memory_bytes)


def _small(earlier: EarlierRun | None) -> list[Finding]:
    """An earlier run of so few rows tells more of its start than of the rest."""
    if earlier is None or earlier.filled >= ENOUGH:
        return []
    enough = math.ceil(ENOUGH * earlier.rows / earlier.filled)
    text = f"the earlier run had {earlier.rows:,} rows, {earlier.filled:.1f} times its engines' places, so its times are mostly their start"
    return [Finding(text=f"{text}; {enough:,} rows or more would tell (--pilot {enough})")]


def _stale(phases: Sequence[Phase]) -> list[Finding]:
    """Prices grow old."""
    age = (date.today() - PRICES_OF).days
    if age < STALE_AFTER_DAYS or all(phase.money is None or not phase.gpus for phase in phases):
        return []
    return [Finding(text=f"the package's prices are of {PRICES_OF}, {age} days old; state price_per_gpu_hour in the cluster's file")]
