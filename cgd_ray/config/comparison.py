"""A comparison: one run's config, and which arms, seeds, learning rates and mixes of verdicts it is repeated with.

Why a tree of its own: a run is a function of its config, and a comparison is a set of runs that differ in what this file names and in
nothing else.
How to use: `comparison = load_comparison(path, ["seeds=[0]"])`, then `base_config(comparison)`.
"""

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from cgd_ray.config.base import Count, Settings
from cgd_ray.config.loading import load_config, read_settings
from cgd_ray.config.paths import is_url
from cgd_ray.config.training import ArmName, CritiquesName, VerdictMix
from cgd_ray.config.tree import Config

BASE = "base"
"""The arm without training: the student as it was."""
ABLATED: Literal["cgd"] = "cgd"
"""The arm whose critiques may be other ones; `cgd-shuffled` is it with shuffled critiques."""
_KINDS: tuple[CritiquesName, ...] = typing.get_args(CritiquesName)
_NAMES: tuple[ArmName, ...] = typing.get_args(ArmName)
ARMS: Mapping[str, tuple[ArmName, CritiquesName]] = {
    **{arm: (arm, "specific") for arm in _NAMES},
    **{f"{ABLATED}-{kind}": (ABLATED, kind) for kind in _KINDS if kind != "specific"},
}
"""What can be trained: each name with its training.arm and training.critiques."""
DECIDED_HERE = ("arm", "critiques", "usable_by", "seed")
"""Settings of the training that a comparison decides for each of its runs."""


def _named_arm(entry: Any) -> Any:
    """`cgd`, or `{cgd: shuffled}` as `cgd-shuffled`."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((arm, kind),) = entry.items()
        entry = arm if kind == "specific" else f"{arm}-{kind}"
    if entry != BASE and entry not in ARMS:
        near = difflib.get_close_matches(str(entry), [BASE, *ARMS], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"valid here: {', '.join([BASE, *ARMS])}"
        raise ValueError(f"{entry!r} is no arm; {hint}")
    return entry


ComparedArm = Annotated[str, BeforeValidator(_named_arm)]


class ComparisonConfig(Settings):
    """Arms x seeds x learning rates x mixes of verdicts, on the same records, each a run of its own, paired with a reference."""

    base: str
    """The config of a run, relative to this file: models, problems, evaluation, and all that the runs have in common."""
    run_dir: str
    """Directory that receives the records, all runs and the result; on shared storage when the cluster has several nodes."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """What all runs have otherwise than `base`, e.g. {problems: {limit: 256}, training: {num_epochs: 1}}."""
    arms: tuple[ComparedArm, ...]
    """Arms of training.arm, and critique ablations of cgd as {cgd: shuffled}, generic, verdict_only or none. The untrained student, base,
    is always shown."""
    reference: ComparedArm = ABLATED
    """The arm that all others are compared with, e.g. cgd or cgd-shuffled."""
    seeds: tuple[int, ...]
    """Seeds of the training, which decide the order of its rows: several tell an arm's effect from a training's luck."""
    learning_rates: tuple[Annotated[float, Field(gt=0.0)], ...] = ()
    """Peak rates with which everything is repeated; empty takes that of `base`."""
    verdict_mixes: tuple[VerdictMix | None, ...] = ()
    """Mixes of verdicts with which everything is repeated, e.g. [{right: 1.0}, {wrong: 1.0}]; empty takes that of `base`."""
    budget: Literal["steps", "examples", "tokens"] = "steps"
    """What is equal. steps: the same records for all arms, and the optimizer steps that the reference takes for them; examples: the same
    records, where arms with longer examples take more steps; tokens: with loss, as many as the arm with the fewest has of these."""
    parallel_cells: Count = 1
    """Runs that are at work side by side. They wait for each other's resources where the cluster cannot hold so many."""

    @property
    def trained_arms(self) -> tuple[str, ...]:
        """Without the untrained student."""
        return tuple(arm for arm in self.arms if arm != BASE)

    @model_validator(mode="after")
    def _something_is_compared(self) -> "ComparisonConfig":
        for name in ("arms", "seeds"):
            if not getattr(self, name):
                example = "[sft, cgd]" if name == "arms" else "[0, 1, 2]"
                raise ValueError(f"{name} is empty, so there is nothing to train; give for instance {example}")
        for name in ("arms", "seeds", "learning_rates", "verdict_mixes"):
            values = getattr(self, name)
            if repeated := [value for value in values if values.count(value) > 1]:
                raise ValueError(f"{name} has {repeated[0]} {values.count(repeated[0])} times; name it once")
        return self

    @model_validator(mode="after")
    def _reference_is_trained(self) -> "ComparisonConfig":
        if self.reference not in self.trained_arms:
            raise ValueError(
                f"reference is {self.reference}, which is not among the arms that are trained ({', '.join(self.trained_arms)}); add it to "
                "arms, or choose one of these"
            )
        return self


def load_comparison(path: str | Path, overrides: Sequence[str] = ()) -> ComparisonConfig:
    """Read a YAML file and apply `a.b=c` overrides; `base` comes out absolute. Raises ValueError with one line per problem."""
    comparison = read_settings(ComparisonConfig, path, overrides)
    if is_url(comparison.run_dir):
        raise ValueError(
            f"run_dir is {comparison.run_dir}, and a comparison's runs share files; give a directory, and copy it to a store afterwards"
        )
    return comparison.model_copy(update={"base": str((Path(path).parent / comparison.base).absolute())})


def base_config(comparison: ComparisonConfig) -> Config:
    """What the runs have in common, with the comparison's own run_dir and all paths absolute.

    Raises ValueError with one line for what cannot be compared.
    """
    leaves = dict(_leaves(comparison.settings))
    for name in (f"training.{decided}" for decided in DECIDED_HERE):
        if name in leaves:
            raise ValueError(f"settings.{name} is {leaves[name]!r}, which a comparison decides for each run; remove it")
    config = load_config(comparison.base, [f"{key}={_flow(value)}" for key, value in {**leaves, "run_dir": comparison.run_dir}.items()])
    if config.training.streaming:
        raise ValueError(
            f"training.streaming is true in {comparison.base}, and all arms train on the same finished records; set it to false"
        )
    if config.evaluation is None:
        raise ValueError(f"evaluation is null in {comparison.base}, so nothing can be compared; set evaluation.problems or benchmarks")
    return config


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _flow(value: Any) -> str:
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False).strip()[1:-1]
