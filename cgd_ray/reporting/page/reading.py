"""Reads Parquet files: a few small columns of all rows, and texts of single rows, of which no more than a batch is in memory at a time.

How to use: `read_columns(part, ["verdict"])`; `for row in read_rows(parts, [3, 70_000], ["question", "attempt"]): ...`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_BATCH = 256
TEXT_CHARACTERS = 200_000
"""Of one text on a page; the page says when there was more."""


def read_rows(parts: Sequence[Path], rows: Sequence[int], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The named columns, as far as a file has them, of rows in ascending order, which are counted through all files."""
    wanted, start = np.asarray(rows, np.int64), 0
    for part in parts:
        with pq.ParquetFile(part) as file:
            present = [name for name in names if name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                if np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                    yield from _in_group(file, group, wanted - start, present)
                start = end


def read_columns(part: Path, names: Sequence[str]) -> pa.Table:
    """The named columns of a whole file, as far as it has them. Not pq.read_table, which takes longer to import than to read."""
    with pq.ParquetFile(part) as file:
        return file.read(columns=[name for name in names if name in file.schema_arrow.names])


def cut_text(text: str) -> str:
    """At most TEXT_CHARACTERS of a text."""
    return text[:TEXT_CHARACTERS]


def _in_group(file: pq.ParquetFile, group: int, wanted: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    start = 0
    for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=[group], columns=names):
        end = start + batch.num_rows
        inside = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, end)] - start
        yield from batch.take(pa.array(inside)).to_pylist()
        start = end
