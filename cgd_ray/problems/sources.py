"""Reads problems from JSONL, JSON, Parquet and Hugging Face data sets into one checked table.

Why strict: a wrong column, a duplicate id or an empty question is found here, in a second, and not after a night of generation.
How to use: `table = load_problems(config.problems)`.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import SourceConfig
from cgd_ray.records import PROBLEM_SCHEMA, short_hash

Row = Mapping[str, Any]
Problem = dict[str, str | None]
"""A row of PROBLEM_SCHEMA."""


def load_problems(source: SourceConfig) -> pa.Table:
    """All problems of a source as PROBLEM_SCHEMA, in the source's order.

    A question that no tokenizer can take (a lone surrogate) keeps its row, with the reason in `error`. Raises ValueError, one line
    that names the file, the row and the remedy, for a missing file or column, an empty question or duplicate ids.
    """
    problems = read_problems(source)
    _check_unique(source, problems)
    return pa.Table.from_pylist(problems, schema=PROBLEM_SCHEMA)


def read_problems(source: SourceConfig) -> list[Problem]:
    """The same as rows, with ids that may repeat: a benchmark to compare with is taken as it is published."""
    try:
        rows = _read_rows(source)
    except UnicodeDecodeError as error:
        raise ValueError(f"problems file {source.path} is not UTF-8 text ({error}); convert it") from None
    if source.limit is not None:
        rows = rows[: source.limit]
    if not rows:
        raise ValueError(f"{source.path} holds no problems; check problems.path and problems.split")
    _check_columns(source, rows[0])
    return [_problem(source, number, row) for number, row in enumerate(rows, 1)]


def _read_rows(source: SourceConfig) -> list[Row]:
    path = Path(source.path)
    if path.is_dir():
        parts = sorted(path.glob("*.parquet"))
        return _read_parquet(parts) if parts else _read_data_set(source)
    if path.suffix in {".jsonl", ".json", ".parquet"}:
        if not path.is_file():
            raise ValueError(f"problems file {path} does not exist; check problems.path")
        if path.suffix == ".parquet":
            return _read_parquet([path])
        return _read_jsonl(path) if path.suffix == ".jsonl" else _read_json(path)
    if path.exists() or path.is_absolute():
        raise ValueError(f"problems.path {path} is no .jsonl, .json or .parquet file and no directory with a data set")
    return _read_data_set(source)


def _read_parquet(parts: Iterable[Path]) -> list[Row]:
    tables = []
    for part in parts:
        try:
            tables.append(pq.read_table(part))
        except pa.ArrowInvalid as error:
            raise ValueError(f"problems file {part} is no Parquet: {str(error).splitlines()[0]}") from None
    rows: list[Row] = pa.concat_tables(tables, promote_options="permissive").to_pylist()
    return rows


def _read_jsonl(path: Path) -> list[Row]:
    rows = []
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                rows.append(_as_row(path, number, _parse_json(path, number, line)))
    return rows


def _read_json(path: Path) -> list[Row]:
    content = _parse_json(path, 1, path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, list):
        raise ValueError(f"problems file {path} holds {type(content).__name__}, not a list of problems")
    return [_as_row(path, number, row) for number, row in enumerate(content, 1)]


def _parse_json(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"problems file {path}, row {number}: no valid JSON ({error}); correct or remove it") from None


def _as_row(path: Path, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"problems file {path}, row {number} is {type(value).__name__}, not an object with named columns")
    return value


def _read_data_set(source: SourceConfig) -> list[Row]:
    """A Hugging Face data set, saved on disk or named on the hub."""
    import datasets

    try:
        load = datasets.load_from_disk if Path(source.path).is_dir() else datasets.load_dataset
        loaded = load(source.path)
    except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
        raise ValueError(f"problems.path {source.path} could not be loaded as a data set: {str(error).splitlines()[0]}") from None
    if isinstance(loaded, datasets.DatasetDict):
        if source.split not in loaded:
            raise ValueError(f"problems.split {source.split!r} is not in {source.path}; it has {', '.join(loaded)}")
        loaded = loaded[source.split]
    rows: list[Row] = loaded.to_list()
    return rows


def _check_columns(source: SourceConfig, first: Row) -> None:
    for setting, column in source.fields.model_dump().items():
        if column is not None and column not in first:
            near = difflib.get_close_matches(column, list(first), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, first))}"
            raise ValueError(f"problems.fields.{setting} names column {column!r}, which {source.path} lacks; {hint}")


def _problem(source: SourceConfig, number: int, row: Row) -> Problem:
    fields = source.fields
    question = row.get(fields.question)
    if not isinstance(question, str) or not question.strip():
        raise ValueError(
            f"{source.path}, row {number}: column {fields.question!r} is {question!r}, not a question; correct or remove the row"
        )
    problem_id = short_hash(question) if fields.problem_id is None else _text(row.get(fields.problem_id))
    if not problem_id:
        raise ValueError(
            f"{source.path}, row {number}: column {fields.problem_id!r} is empty; give it an id or set problems.fields.problem_id to null"
        )
    problem = {
        "problem_id": problem_id,
        "question": question,
        "reference_answer": _answer(source, number, row),
        "reference_solution": _text(row.get(fields.reference_solution)) if fields.reference_solution else None,
        "error": None,
    }
    return {name: value if value is None else _storable(value, problem) for name, value in problem.items()} | {"error": problem["error"]}


def _answer(source: SourceConfig, number: int, row: Row) -> str | None:
    column = source.fields.reference_answer
    answer = _text(row.get(column)) if column else None
    if answer is None or source.reference_answer_pattern is None:
        return answer
    found = re.search(source.reference_answer_pattern, answer)
    if not found:
        raise ValueError(
            f"{source.path}, row {number}: reference_answer_pattern {source.reference_answer_pattern!r} matches nothing in {answer[-60:]!r}"
        )
    return found.group(1).strip()


def _text(value: Any) -> str | None:
    """Numbers become text; 27.0 becomes 27, as people write it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _storable(text: str, problem: Problem) -> str:
    """Text as Parquet can hold it; a lone surrogate is escaped and makes the row a failed one."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        problem["error"] = "problem: text holds a lone surrogate, which is not valid Unicode"
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _check_unique(source: SourceConfig, problems: list[Problem]) -> None:
    first_row: dict[str | None, int] = {}
    for number, problem in enumerate(problems, 1):
        earlier = first_row.setdefault(problem["problem_id"], number)
        if earlier != number:
            what = "question" if source.fields.problem_id is None else f"id {problem['problem_id']!r}"
            raise ValueError(f"{source.path}: rows {earlier} and {number} have the same {what}; remove one of them")
