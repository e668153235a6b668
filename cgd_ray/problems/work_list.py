"""The work list: one row per (problem, sample), written to Parquet before generation starts.

Why a file: Ray Data's job-level checkpoint resumes read -> ... -> write pipelines only, and a fixed list of ids is what "every record
exactly once" is checked against.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.data.records import WORK_SCHEMA, make_record_id
from cgd_ray.data.rundir import atomic_write

ROWS_PER_GROUP = 2**13
"""Generation reads the list a row group at a time, so that the driver's memory does not follow the number of rows."""


def make_work_list(problems: pa.Table, num_samples: int) -> pa.Table:
    """Explode problems (PROBLEM_SCHEMA) into WORK_SCHEMA rows, samples of one problem side by side."""
    rows = [
        {**problem, "record_id": make_record_id(problem["problem_id"], sample), "sample_index": sample}
        for problem in problems.to_pylist()
        for sample in range(num_samples)
    ]
    return pa.Table.from_pylist(rows, schema=WORK_SCHEMA)


def check_work_list(work: pa.Table, path: Path) -> None:
    """Raise ValueError when another work list is there: the problems have changed since."""
    if path.exists() and not pq.read_table(path).equals(work):
        raise ValueError(
            f"the problems differ from those in {path}, which this run began with; choose another run_dir (generation.reuse takes over "
            "the records of problems that are the same)"
        )


def write_work_list(work: pa.Table, path: Path) -> None:
    """Publish the work list unless it is there already. Raises ValueError when another one is."""
    check_work_list(work, path)
    if path.exists():
        return
    with atomic_write(path) as temporary:
        pq.write_table(work, temporary, row_group_size=ROWS_PER_GROUP)
