"""Takes from records of other runs, finished or not, the columns that this run would make alike: same row, same fingerprint.

A fingerprint covers everything a column depends on, the columns before it too, so a new critique prompt keeps the attempts, and a new
student keeps nothing. How to use: `reused = prefill(work_list, sources, fingerprints, prefilled)`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from cgd_ray.generation.finished import durable_parts
from cgd_ray.problems.work_list import ROWS_PER_GROUP
from cgd_ray.records import RECORD_SCHEMA, Stage, columns_of
from cgd_ray.rundir import atomic_write

ID_COLUMN = "record_id"
TOKEN_KINDS = ("prompt_tokens", "cached_tokens", "tokens")

Reused = dict[Stage, dict[str, int]]
"""Of each stage: rows, and the tokens that were spent on them before."""


def prefill(work_list: Path, sources: Sequence[Path], fingerprints: Mapping[Stage, str], prefilled: Path) -> Reused:
    """Write the work list with every column found in the sources; returns what was found.

    A row counts as the same when its id and its question are. Raises ValueError for a source that is no generation of this version.
    """
    work = pq.read_table(work_list)
    reused: Reused = {}
    for stage, fingerprint in fingerprints.items():
        alike = [_made_alike(source, stage, fingerprint) for source in sources]
        known = _first_of_each(pa.concat_tables(alike)).join(
            work.select([ID_COLUMN, "question"]), [ID_COLUMN, "question"], join_type="inner"
        )
        if known.num_rows:
            work = work.join(known, [ID_COLUMN, "question"], join_type="left outer")
        reused[stage] = {"rows": known.num_rows, **{kind: pc.sum(known[f"{stage}_{kind}"]).as_py() or 0 for kind in TOKEN_KINDS}}
    with atomic_write(prefilled) as temporary:
        found = work.select([field.name for field in RECORD_SCHEMA if field.name in work.column_names])
        pq.write_table(found, temporary, row_group_size=ROWS_PER_GROUP)
    return reused


def _made_alike(source: Path, stage: Stage, fingerprint: str) -> pa.Table:
    rows = pyarrow.dataset.dataset([str(part) for part in durable_parts(source)], schema=RECORD_SCHEMA)
    alike = (pc.field(f"{stage}_fingerprint") == fingerprint) & pc.is_valid(pc.field(stage))
    return rows.to_table(columns=[ID_COLUMN, "question", *columns_of(stage)], filter=alike)


def _first_of_each(rows: pa.Table) -> pa.Table:
    """One row per id: several sources may hold the same."""
    numbered = rows.append_column("_row", pa.array(range(rows.num_rows)))
    first = numbered.group_by(ID_COLUMN, use_threads=False).aggregate([("_row", "min")])["_row_min"]
    return rows.take(first)
