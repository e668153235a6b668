"""Removes training problems that a benchmark asks too, so that a score is not the memory of a test question.

Two questions overlap when they have a run of `ngram` words in common, or are the same as a whole, mathematical signs included ("3 + 4" and
"3 - 4" have the same words). A run that several questions of one benchmark have ("where m and n are relatively prime positive integers")
is a phrase of the trade and tells nothing.
Own code: datatrove's filter looks for a benchmark's answers rather than its questions alone and brings lighteval and NLTK along;
datasketch estimates how alike whole texts are, which hides a copied sentence.
How to use: `kept, report = decontaminate(problems, config.problems.decontaminate, notes)`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cgd_ray.config import DecontaminationConfig
from cgd_ray.problems.rows import Row
from cgd_ray.problems.sources import Problem, read_problems

COMMON_QUESTIONS = 3
"""A run of words in so many different questions of one benchmark is ignored."""

_WORD = re.compile(r"[^\W_]+")
_WORD_OR_SIGN = re.compile(r"[^\W_]+|[^\w\s.,;:?\"'“”‘’`$\\{}~]")
_LAYOUT = re.compile(
    r"\\(?:[,;:!>()\[\]\s]|q?quad\b|[hv]space\*?\s*\{[^{}]*\}|(?:left|right|big[lr]?|displaystyle|textstyle|text|text(?:bf|it|rm)|math(?:bf|it|rm))"
    r"(?![a-z])|[dt](?=frac|binom))"
)
"""LaTeX that changes how a formula looks and not what it says; for lower-case text."""
_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
"""Code of a figure: much of it is the same in every figure."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What a training question has in common with a benchmark."""

    benchmark: str
    """File of the benchmark, or its name on the hub."""
    row: int
    """Row of the benchmark's question there, from 1."""
    problem_id: str | None
    """Its id: the mapped column, or a hash of the question."""
    ngram: str
    """The words in common: the first such run of the training question, or all of it."""


class Benchmarks:
    """All questions of the benchmarks, ready to be compared with; about 100 bytes for each of their words."""

    def __init__(self, config: DecontaminationConfig, notes: list[str] | None = None) -> None:
        """Read the benchmarks; what the user should know of them goes to `notes`.

        Raises ValueError, one line that names the setting, for one that cannot be read.
        """
        self._config, self._ngram = config, config.ngram
        self._questions: list[tuple[str, int, str | None]] = []
        told = [] if notes is None else notes
        self._places: dict[int, int] = {}  # hash of a run or a whole -> index of the first question that has it
        for index, source in enumerate(config.against):
            self._add(read_problems(source, f"problems.decontaminate.against.{index}", told))

    def __reduce__(self) -> tuple[type["Benchmarks"], tuple[DecontaminationConfig]]:
        """Another process reads them again, since hashes are other ones there."""
        return Benchmarks, (self._config,)

    def _add(self, problems: Sequence[tuple[Row, Problem]]) -> None:
        keys = [[hash(key) for key in _keys(problem["question"] or "", self._ngram)] for _, problem in problems]
        distinct = {question_keys[-1]: question_keys for question_keys in keys if question_keys}
        num_questions = Counter(key for question_keys in distinct.values() for key in set(question_keys))
        for (row, problem), question_keys in zip(problems, keys, strict=True):
            for key in question_keys:
                if num_questions[key] < COMMON_QUESTIONS:
                    self._places.setdefault(key, len(self._questions))
            self._questions.append((row.file, row.number, problem["problem_id"]))

    def overlap(self, question: str) -> Overlap | None:
        """The first overlap of a question with the benchmarks, or None when it is clean."""
        for key in _keys(question, self._ngram):
            place = self._places.get(hash(key))
            if place is not None:
                benchmark, row, problem_id = self._questions[place]
                return Overlap(benchmark=benchmark, row=row, problem_id=problem_id, ngram=" ".join(key))
        return None


def decontaminate(problems: pa.Table, config: DecontaminationConfig, notes: list[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """The problems (PROBLEM_SCHEMA) that overlap with no benchmark, and a report on the others.

    Raises ValueError when a benchmark cannot be read or no problem is left.
    """
    benchmarks = Benchmarks(config, notes)
    overlaps = [benchmarks.overlap(question) for question in problems["question"].to_pylist()]
    removed = [
        {"problem_id": problem_id, "benchmark": found.benchmark, "row": found.row, "benchmark_id": found.problem_id, "ngram": found.ngram}
        for problem_id, found in zip(problems["problem_id"].to_pylist(), overlaps, strict=True)
        if found is not None
    ]
    if len(removed) == problems.num_rows:
        raise ValueError(
            f"problems.decontaminate with ngram {config.ngram} removes all {problems.num_rows} problems (the first overlaps with row "
            f"{removed[0]['row']} of {removed[0]['benchmark']}); raise ngram or compare with other files"
        )
    report = {"checked": problems.num_rows, "removed": len(removed), "ngram": config.ngram, "problems": removed}
    return problems.filter(pa.array([found is None for found in overlaps])), report


def _keys(question: str, ngram: int) -> Iterator[tuple[str, ...]]:
    """What a question is compared by: each run of `ngram` words, and in the end all of it, signs included."""
    text = _LAYOUT.sub(lambda found: "\\" if found.group() in {r"\d", r"\t"} else " ", unicodedata.normalize("NFKC", question).lower())
    words = _WORD.findall(_DRAWING.sub(" ", text))
    if len(words) >= ngram:
        yield from zip(*(words[start:] for start in range(ngram)), strict=False)  # the last run ends where the words do
    whole = tuple(_WORD_OR_SIGN.findall(text))
    if whole:
        yield whole
