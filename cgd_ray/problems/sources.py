"""Reads problems from JSONL, JSON, Parquet and Hugging Face data sets into one checked table.

Why strict: a wrong column, a duplicate id or an empty question is found here, in a second, and not after a night of generation. The same
question once more is left out, and told: published data sets have such rows, and nobody can remove them there.
How to use: `table = load_problems(config.problems, "problems", notes)`.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import SourceConfig
from cgd_ray.data.records import PROBLEM_SCHEMA, short_hash

Row = Mapping[str, Any]
Problem = dict[str, str | None]
"""A row of PROBLEM_SCHEMA."""
SAVED_DATA_SET = ("dataset_dict.json", "state.json")
"""Files of which one is in every directory that the datasets library has saved."""


def load_problems(source: SourceConfig, setting: str, notes: list[str]) -> pa.Table:
    """All problems of a source as PROBLEM_SCHEMA, in the source's order; what the user should know of them is added to `notes`.

    A question that no tokenizer can take (a lone surrogate) keeps its row, with the reason in `error`. Raises ValueError, one line
    that names the setting, the file, the row and the remedy, for a missing file or column, an empty question or duplicate ids.
    """
    problems = read_problems(source, setting)
    first_row: dict[str | None, int] = {}
    for number, problem in enumerate(problems, 1):
        earlier = first_row.setdefault(problem["problem_id"], number)
        if earlier != number and source.fields.problem_id is not None:
            same = f"rows {earlier} and {number} have the same id {problem['problem_id']!r}"
            raise ValueError(f"{setting}.path {source.path}: {same}; correct one of them, or set fields.problem_id to null")
    if repeated := len(problems) - len(first_row):
        notes.append(f"{setting}: {repeated:,} of {len(problems):,} rows repeat a question; the first of each is taken")
    return pa.Table.from_pylist([problems[number - 1] for number in first_row.values()], schema=PROBLEM_SCHEMA)


def read_problems(source: SourceConfig, setting: str) -> list[Problem]:
    """The same as rows, with ids that may repeat: a benchmark to compare with is taken as it is published."""
    try:
        rows = list(islice(_rows(source), source.limit))
        if not rows:
            raise ValueError(f"path {source.path} holds no problems; check it and the split")
        _check_columns(source, rows[0])
        return [_problem(source, number, row) for number, row in enumerate(rows, 1)]
    except UnicodeDecodeError as error:
        raise ValueError(f"{setting}.path {source.path} is not UTF-8 text ({error}); convert it") from None
    except ValueError as error:  # each begins with a setting of the source
        raise ValueError(f"{setting}.{error}") from None


def _rows(source: SourceConfig) -> Iterator[Row]:
    """The rows, read as they are asked for: a limit spares the rest of a large source."""
    path = Path(source.path)
    if path.is_dir():
        parts = sorted(path.glob("*.parquet"))
        return _parquet_rows(parts) if parts else iter(_data_set_rows(source))
    if path.suffix in {".jsonl", ".json", ".parquet"}:
        if not path.is_file():
            raise ValueError(f"path {path} does not exist; give a file that does")
        if path.suffix == ".parquet":
            return _parquet_rows([path])
        return _jsonl_rows(path) if path.suffix == ".jsonl" else _json_rows(path)
    if path.exists() or path.is_absolute():
        raise ValueError(f"path {path} is no .jsonl, .json or .parquet file and no directory with a data set")
    return iter(_data_set_rows(source))


def _parquet_rows(parts: Iterable[Path]) -> Iterator[Row]:
    for part in parts:
        try:
            for batch in pq.ParquetFile(part).iter_batches():
                yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise ValueError(f"path {part} is no Parquet: {str(error).splitlines()[0]}; copy it again") from None


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield _as_row(path, number, _parse_json(path, number, line))


def _json_rows(path: Path) -> Iterator[Row]:
    content = _parse_json(path, 1, path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, list):
        raise ValueError(f"path {path} holds {type(content).__name__}, not a list of problems; put [...] around them")
    return (_as_row(path, number, row) for number, row in enumerate(content, 1))


def _parse_json(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"path {path}, row {number}: no valid JSON ({error}); correct or remove it") from None


def _as_row(path: Path, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"path {path}, row {number} is {type(value).__name__}, not an object with named columns; correct or remove it")
    return value


def _data_set_rows(source: SourceConfig) -> list[Row]:
    """A data set on the hub or a copy of one in a directory, or one that the datasets library has saved."""
    import datasets

    directory = Path(source.path)
    try:
        if any((directory / name).is_file() for name in SAVED_DATA_SET):
            loaded = datasets.load_from_disk(source.path)
        else:
            loaded = datasets.load_dataset(source.path, source.subset)
    except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
        raise ValueError(f"path {source.path} could not be loaded as a data set: {' '.join(str(error).split())[:300]}") from None
    if isinstance(loaded, datasets.DatasetDict):
        if source.split not in loaded:
            raise ValueError(f"split {source.split!r} is not in {source.path}; it has {', '.join(loaded)}")
        loaded = loaded[source.split]
    rows: list[Row] = loaded.select(range(min(len(loaded), source.limit or len(loaded)))).to_list()
    return rows


def _check_columns(source: SourceConfig, first: Row) -> None:
    for setting, column in source.fields.model_dump().items():
        if column is not None and column not in first:
            near = difflib.get_close_matches(column, list(first), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, first))}"
            raise ValueError(f"fields.{setting} names column {column!r}, which {source.path} lacks; {hint}")


def _problem(source: SourceConfig, number: int, row: Row) -> Problem:
    fields = source.fields
    question = row.get(fields.question)
    if not isinstance(question, str) or not question.strip():
        raise ValueError(
            f"path {source.path}, row {number}: column {fields.question!r} is {question!r}, not a question; correct or remove the row"
        )
    problem_id = short_hash(question) if fields.problem_id is None else _text(row.get(fields.problem_id))
    if not problem_id:
        raise ValueError(
            f"path {source.path}, row {number}: column {fields.problem_id!r} is empty; give it an id or set fields.problem_id to null"
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
            f"reference_answer_pattern {source.reference_answer_pattern!r} matches nothing in row {number} of {source.path}, "
            f"{answer[-60:]!r}; correct the pattern or the row"
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
