"""Some rows of many Parquet files, in any order, without the others: only the row groups that hold them are read.

How to use: `fetch(parts, files, rows, ["record_id", "critique"])`, with the number of each row's file and its number in that file.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def fetch(parts: Sequence[Path], files_N: np.ndarray, rows_N: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """N >= 1 rows in the order in which they are asked for; as much is in memory as they have, and one file's row groups."""
    order_N = np.lexsort((rows_N, files_N))
    files_N, rows_N = files_N[order_N], rows_N[order_N]
    starts = np.flatnonzero(np.diff(files_N, prepend=-1))
    ends = pairwise([*starts.tolist(), len(files_N)])
    tables = [_rows_of(parts[files_N[start]], rows_N[start:stop], columns) for start, stop in ends]
    return pa.concat_tables(tables).combine_chunks().take(np.argsort(order_N))


def _rows_of(part: Path, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Rows of one file, in rising order."""
    with pq.ParquetFile(part) as file:
        ends = np.cumsum([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
        groups, firsts = np.unique(np.searchsorted(ends, rows, side="right"), return_index=True)
        tables = []
        for group, first, stop in zip(groups.tolist(), firsts, [*firsts[1:], len(rows)], strict=True):
            table = file.read_row_group(group, columns=list(columns), use_threads=False)
            tables.append(table.take(rows[first:stop] - (ends[group] - table.num_rows)))
    return pa.concat_tables(tables)
