"""Where problems come from, and which of them are left out."""

import re
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from cgd_ray.config.base import Added, Count, Settings


class FieldMapping(Settings):
    """Which column of the source holds what."""

    question: str = "question"
    """Column with the problem's text."""
    reference_answer: str | None = None
    """Column with the final answer, used for grading only; null when there is none."""
    reference_solution: str | None = None
    """Column with a worked solution, the target of the `sft` arm; null when there is none."""
    problem_id: str | None = None
    """Column with a unique id; null makes ids from a hash of the question."""


class SourceConfig(Settings):
    """Where problems come from."""

    path: str
    """A .jsonl, .json or .parquet file, a directory of such files or of a Hugging Face data set, or a hub name."""
    subset: str | None = None
    """Subset (configuration, or folder) of a data set that has several, e.g. main of openai/gsm8k."""
    revision: Annotated[str | None, Added()] = None
    """Branch, tag or commit of a data set on the hub; null takes its main branch, which may change."""
    split: str = "train"
    """Split to read; which files of a directory are which split is told by their names, as on the hub (train-00000-of-00001.parquet,
    test.jsonl, data/validation/...). A single file has none and is read whole."""
    fields: FieldMapping = FieldMapping()
    """Column mapping, e.g. {question: problem, reference_answer: answer}."""
    reference_answer_pattern: str | None = None
    r"""Regular expression whose first group is the final answer inside the mapped column, e.g. '####\s*(.+)' for GSM8K."""
    list_answers: Literal["refuse", "set"] = "refuse"
    """What a list of several answers is: refused, or the set of all of them, which must then all be given. A list of one is that one."""
    on_bad_row: Literal["refuse", "drop"] = "refuse"
    """What to do about a row that is no problem (an empty question, broken JSON, an answer that is no text or number, or that the pattern
    does not match): refuse the source, or leave the row out and tell how many there were."""
    shuffle_seed: int | None = None
    """Seed of a random order, in which `limit` takes a sample of a source that is sorted; null keeps the source's own order."""
    limit: Count | None = None
    """Take only the first n problems; null takes all."""

    @model_validator(mode="after")
    def _pattern_compiles(self) -> "SourceConfig":
        if self.reference_answer_pattern is not None:
            try:
                groups = re.compile(self.reference_answer_pattern).groups
            except re.error as error:
                raise ValueError(f"reference_answer_pattern {self.reference_answer_pattern!r} is no regular expression: {error}") from None
            if groups < 1:
                raise ValueError(f"reference_answer_pattern {self.reference_answer_pattern!r} has no group; put (...) around the answer")
        return self


SourceT = TypeVar("SourceT", bound=SourceConfig)


class DecontaminationConfig(Settings):
    """Which training problems are removed because a benchmark asks them too."""

    against: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    """The benchmarks, each described like any source of problems; only their questions are compared."""
    ngram: Count = 13
    """A run of so many words in common is an overlap; questions with fewer words must be the same."""


class MixedSourceConfig(SourceConfig):
    """One more source of training problems."""

    weight: Annotated[float, Field(gt=0.0)] | None = None
    """Problems to take from it for each one of problems.path, e.g. 0.5 for one to every two; null takes all that it has."""


class ProblemsConfig(SourceConfig):
    """The training problems."""

    mix: tuple[MixedSourceConfig, ...] = ()
    """Further sources, each described like this one and with its own `limit`; all are spread evenly over the whole."""
    decontaminate: DecontaminationConfig | None = None
    """Remove problems that overlap with benchmarks, after `limit` and `mix` are applied; null removes none."""

    @property
    def label(self) -> str:
        """Where the problems are from, in a few words."""
        return " + ".join([self.path, *(source.path for source in self.mix)])
