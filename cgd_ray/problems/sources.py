"""Reads problems from JSONL, JSON, Parquet and Hugging Face data sets into one checked table.

Why strict: a wrong column, a duplicate id or an empty question is found here, in a second, and not after a night of generation. The same
question once more is left out, and told: published data sets have such rows, and nobody can remove them there.
How to use: `table = load_problems(config.evaluation.problems, "evaluation.problems", notes)`; mixing.py for the training problems.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from cgd_ray.config import SourceConfig
from cgd_ray.data.records import PROBLEM_SCHEMA, short_hash
from cgd_ray.problems.cells import answer_text, shown, text
from cgd_ray.problems.reading import read_rows
from cgd_ray.problems.rows import Row

Problem = dict[str, str | None]
"""A row of PROBLEM_SCHEMA."""
Prepare = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes the columns that a source's fields name, from those that its rows have."""
REFERENCES = ("reference_answer", "reference_solution")
"""Fields of a problem that it may lack."""


class _BadRowError(ValueError):
    """A row is no problem; what it is begins with a setting of the source."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}, or set on_bad_row to drop")
        self.what = what


def load_problems(source: SourceConfig, setting: str, notes: list[str]) -> pa.Table:
    """All problems of a source as PROBLEM_SCHEMA, in the source's order or shuffled; what the user should know of them goes to `notes`.

    A question that no tokenizer can take (a lone surrogate) keeps its row, with the reason in `error`. Raises ValueError, one line
    that names the setting, the file, the row and the remedy, for a missing file or column, a row that is no problem or duplicate ids.
    """
    problems = read_problems(source, setting, notes)
    first: dict[str | None, tuple[Row, Problem]] = {}
    for row, problem in problems:
        earlier, _ = first.setdefault(problem["problem_id"], (row, problem))
        if earlier is not row and source.fields.problem_id is not None:
            there = "" if earlier.file == row.file else f" of {row.file}"
            raise ValueError(
                f"{setting}.path {earlier.file}: rows {earlier.number} and {row.number}{there} have the same id "
                f"{problem['problem_id']!r}; correct one of them, or set fields.problem_id to null"
            )
    if repeated := len(problems) - len(first):
        notes.append(f"{setting}: {repeated:,} of {len(problems):,} rows repeat a question; the first of each is taken")
    return pa.Table.from_pylist([problem for _, problem in first.values()], schema=PROBLEM_SCHEMA)


def read_problems(source: SourceConfig, setting: str, notes: list[str], prepare: Prepare = dict) -> list[tuple[Row, Problem]]:
    """The same with the row that each is from, and with ids that may repeat: a benchmark to compare with is taken as it is published.

    `prepare` makes columns of the row's; a ValueError of it says in a few words why there is no problem in them.
    """
    dropped: list[_BadRowError] = []
    try:
        problems = list(islice(_problems(source, dropped, prepare), source.limit))
        if not problems:
            raise dropped[0] if dropped else ValueError(f"path {source.path} holds no problems; check it and the split")
    except OSError as error:
        raise ValueError(f"{setting}.path {source.path} cannot be read ({error.strerror or error}); make it readable") from None
    except ValueError as error:  # each begins with a setting of the source
        raise ValueError(f"{setting}.{error}") from None
    if dropped:
        notes.append(f"{setting}: rows left out, as on_bad_row says: {len(dropped):,}; the first: {dropped[0].what}")
    notes += [note for field in REFERENCES if (note := _note_on_nothing(source, setting, field, problems))]
    return problems


def _note_on_nothing(source: SourceConfig, setting: str, field: str, problems: Sequence[tuple[Row, Problem]]) -> str | None:
    """How many problems have nothing in a field that is mapped; None when all have it."""
    column = getattr(source.fields, field)
    rows = [row for row, problem in problems if problem[field] is None]
    if column is None or not rows:
        return None
    lacking = sum(column not in row.columns for row in rows)
    reasons = {f"lack the column {column!r}": lacking, f"hold nothing in column {column!r}": len(rows) - lacking}
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
    return f"{setting}: {len(rows):,} of {len(problems):,} rows have no {field.replace('_', ' ')} ({told})"


def _problems(source: SourceConfig, dropped: list[_BadRowError], prepare: Prepare) -> Iterator[tuple[Row, Problem]]:
    """The rows that are problems, in the order in which they are taken; the others end up in `dropped`, or raise _BadRowError."""
    rows = read_rows(source)
    if source.shuffle_seed is not None:
        shuffled = list(rows)
        random.Random(source.shuffle_seed).shuffle(shuffled)
        rows = iter(shuffled)
    for row in rows:
        try:
            yield row, _problem(source, _prepared(row, prepare))
        except _BadRowError as error:
            if source.on_bad_row == "refuse":
                raise
            dropped.append(error)


def _prepared(row: Row, prepare: Prepare) -> Row:
    if row.fault:
        raise _bad(row, row.fault)
    try:
        return row._replace(columns=prepare(row.columns))
    except ValueError as error:
        raise _bad(row, str(error)) from None


def _problem(source: SourceConfig, row: Row) -> Problem:
    fields = source.fields
    question = row.columns.get(fields.question)
    if not isinstance(question, str) or not question.strip():
        raise _bad(row, f"column {fields.question!r} is {shown(question)}, not a question")
    problem = {
        "problem_id": short_hash(question) if fields.problem_id is None else _id(fields.problem_id, row),
        "question": question,
        "reference_answer": _answer(source, row),
        "reference_solution": _reference(source, row, fields.reference_solution),
        "error": None,
    }
    return {name: value if value is None else _storable(value, problem) for name, value in problem.items()} | {"error": problem["error"]}


def _id(column: str, row: Row) -> str:
    try:
        found = text(row.columns.get(column))
    except ValueError as error:
        raise _bad(row, f"column {column!r} is {error}") from None
    if not found:
        raise _bad(row, f"column {column!r} is empty", "give it an id or set fields.problem_id to null")
    return found


def _reference(source: SourceConfig, row: Row, column: str | None) -> str | None:
    if column is None:
        return None
    try:
        several = source.list_answers if column == source.fields.reference_answer else "refuse"
        return answer_text(row.columns.get(column), several)
    except ValueError as error:
        raise _bad(row, f"column {column!r} holds {error}") from None
    except RecursionError:
        raise _bad(row, f"column {column!r} holds lists in lists in lists") from None


def _answer(source: SourceConfig, row: Row) -> str | None:
    answer, pattern = _reference(source, row, source.fields.reference_answer), source.reference_answer_pattern
    if answer is None or pattern is None:
        return answer
    found = re.search(pattern, answer)
    groups = () if found is None else tuple(group for group in found.groups() if group is not None)
    if not groups:  # nothing matches, or none of the alternatives that are in a group
        raise _BadRowError(
            f"reference_answer_pattern {pattern!r} matches nothing in row {row.number} of {row.file}, {answer[-60:]!r}",
            "correct the pattern or the row",
        )
    return answer_text(groups[0].strip())


def _bad(row: Row, what: str, remedy: str = "correct or remove the row") -> _BadRowError:
    return _BadRowError(f"path {row.file}, row {row.number}: {what}", remedy)


def _storable(text: str, problem: Problem) -> str:
    """Text as Parquet can hold it; a lone surrogate is escaped and makes the row a failed one."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        problem["error"] = "problem: text holds a lone surrogate, which is not valid Unicode"
        return text.encode("utf-8", "backslashreplace").decode()
    return text
