"""What a run is to work on, as far as it is known before anything is fetched: how many problems, and some of their questions.

How to use: `asked = asked_of(config)`; a run, which has read its problems, makes one of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from cgd_ray.config import Config, SourceConfig
from cgd_ray.evaluation.benchmarks.catalogue import benchmark_named
from cgd_ray.problems.mixing import load_training_problems
from cgd_ray.problems.sources import load_problems

SAMPLE = 200
"""Questions that are looked at, spread over all of them: of a million long ones there is no second copy."""
UNKNOWN_PROBLEMS = 1000
"""Problems of a source that is not at hand and has no limit."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The problems of a run."""

    num_problems: int
    questions: Sequence[str]
    """A sample of them, perhaps none."""
    num_evaluated: int
    """Answers that each evaluated model is asked for."""
    notes: Sequence[str] = ()
    """What is assumed."""


def asked_of(config: Config) -> Asked:
    """By reading what is on this machine. A source on the hub is not fetched: its limit says how many there are, or a number is assumed."""
    notes: list[str] = []
    num_problems, questions = _training(config, notes)
    return Asked(num_problems=num_problems, questions=questions, num_evaluated=_evaluated(config), notes=notes)


def _training(config: Config, notes: list[str]) -> tuple[int, list[str]]:
    source = config.problems
    if not _is_here(source):
        number = source.limit or UNKNOWN_PROBLEMS
        assumed = "" if source.limit is not None else f", and how many it has is not known: {number:,} are planned for"
        notes.append(f"problems.path {source.path} is not on this machine, so its lengths are assumed{assumed}")
        return number, []
    problems = load_training_problems(source, notes)
    return problems.num_rows, sampled(problems)


def sampled(problems: pa.Table) -> list[str]:
    """Some of the questions of a table of problems."""
    every = max(1, problems.num_rows // SAMPLE)
    questions: list[str] = problems["question"].take(list(range(0, problems.num_rows, every))).to_pylist()
    return questions


def _evaluated(config: Config) -> int:
    if config.evaluation is None:
        return 0
    asked, source = 0, config.evaluation.problems
    if source is not None:
        number = load_problems(source, "evaluation.problems", []).num_rows if _is_here(source) else source.limit or UNKNOWN_PROBLEMS
        asked += number * config.evaluation.num_samples
    for benchmark in config.evaluation.benchmarks:
        asked += benchmark_named(benchmark.name).size * config.evaluation.samples_of(benchmark)
    return asked


def _is_here(source: SourceConfig) -> bool:
    return Path(source.path).exists()
