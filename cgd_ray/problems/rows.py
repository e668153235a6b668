"""One row of a source, and the columns of it that the settings name.

How to use: `Row("a.jsonl", 1, {"question": "Why?"})`; `check_columns(source, ["question"], "a.jsonl")`.
"""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cgd_ray.config import SourceConfig


class Row(NamedTuple):
    """One row of a source."""

    file: str
    """Where it is from."""
    number: int
    """Its row there, from 1; of JSON lines, the line."""
    columns: Mapping[str, Any]
    """The mapped columns that it has."""
    fault: str = ""
    """Why it is no row at all; empty for all others."""


def mapped_columns(source: SourceConfig) -> list[str]:
    """The columns that are read, each once."""
    return list(dict.fromkeys(column for column in source.fields.model_dump().values() if column is not None))


def check_columns(source: SourceConfig, names: Collection[str], where: str | Path) -> None:
    """Raise ValueError, which begins with the setting, when a column that is read is none of `names`, which are those of `where`."""
    for setting, column in source.fields.model_dump().items():
        if column is not None and column not in names:
            near = difflib.get_close_matches(column, list(names), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, names))}"
            raise ValueError(f"fields.{setting} names column {column!r}, which {where} lacks; {hint}")
