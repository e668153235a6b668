"""Rows come in the order in which they are asked for, wherever they are, and no row group without one of them is read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgd_ray.data.fetching import fetch

PLACES = [(file, row) for file in range(3) for row in range(10)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.sampled_from(PLACES), min_size=1, max_size=30))
def test_rows_come_as_they_are_asked_for(tmp_path: Path, places: list[tuple[int, int]]) -> None:
    parts = [tmp_path / f"{number}.parquet" for number in range(3)]
    for number, part in enumerate(parts):
        if not part.exists():
            pq.write_table(pa.table({"name": [f"{number}-{row}" for row in range(10)], "more": range(10)}), part, row_group_size=4)
    files, rows = (np.array(numbers) for numbers in zip(*places, strict=True))
    table = fetch(parts, files, rows, ["name"])
    assert table.column_names == ["name"]
    assert table["name"].to_pylist() == [f"{file}-{row}" for file, row in places]
