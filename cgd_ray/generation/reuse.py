"""Takes from records of other runs, finished or not, the columns that this run would make alike: same row, same fingerprint.

A fingerprint covers all settings behind a column, those of the columns before it too, so a new critique prompt keeps the attempts, and a
new student keeps nothing. Settings are not texts: two runs with the same ones may have sampled different attempts, so a critique is taken
only with the very attempt that it is about. How to use: `reused = take_over(work_list, sources, fingerprints, with_reused, finished)`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from cgd_ray.data.durable import durable_records
from cgd_ray.data.records import RECORD_SCHEMA, Turn, columns_of
from cgd_ray.data.rundir import atomic_write
from cgd_ray.problems.work_list import ROWS_PER_GROUP

ID_COLUMN = "record_id"
MADE_FROM: dict[Turn, tuple[str, ...]] = {
    "attempt": ("question",),
    "critique": ("question", "attempt"),
    "refinement": ("question", "attempt", "critique"),
    "direct": ("question",),
}
"""Turn -> the columns that it reads of a row."""
ROW = "_row"
TOKEN_KINDS = ("prompt_tokens", "cached_tokens", "tokens")

Reused = dict[Turn, dict[str, int]]
"""Of each stage: rows, and the tokens that were spent on them before."""


def take_over(
    work_list: Path,
    sources: Sequence[Path],
    fingerprints: Mapping[Turn, str],
    with_reused: Path,
    finished: "pa.Array[Any]",
    refines_by_grade: bool = False,
) -> Reused:
    """Write the work list with every column found in the sources; returns what was found.

    `finished` are ids of rows that a former try of this run has written. They keep what it had found for them, which is all that
    tells their reused columns from those that it made, whatever the sources are now. `refines_by_grade` where the reference answer
    decides whether a refinement is asked for again, so that it must be the same too.

    A row counts as the same when its id is, and what the stage reads of it. Raises ValueError for a source that is no generation of this
    version.
    """
    everything = pq.read_table(work_list)
    before = pq.read_table(with_reused) if with_reused.exists() else everything
    work = everything.filter(pc.invert(pc.is_in(everything[ID_COLUMN], value_set=finished)))
    for turn, fingerprint in fingerprints.items():
        reads = (*MADE_FROM[turn], "reference_answer") if turn == "refinement" and refines_by_grade else MADE_FROM[turn]
        known = _known(work, [_made_alike(source, turn, fingerprint, reads) for source in sources], turn, reads)
        if known.num_rows:
            work = work.join(known, ID_COLUMN, join_type="left outer")
    kept = before.filter(pc.is_in(before[ID_COLUMN], value_set=finished))
    found = pa.concat_tables([kept, work], promote_options="default")
    found = found.select([field.name for field in RECORD_SCHEMA if field.name in found.column_names])
    with atomic_write(with_reused) as temporary:
        pq.write_table(found, temporary, row_group_size=ROWS_PER_GROUP)
    return {turn: _counts(found, turn) for turn in fingerprints}


def _counts(found: pa.Table, turn: Turn) -> dict[str, int]:
    if turn not in found.column_names:
        return dict.fromkeys(("rows", *TOKEN_KINDS), 0)
    rows = found.num_rows - found[turn].null_count
    return {"rows": rows, **{kind: pc.sum(found[f"{turn}_{kind}"]).as_py() or 0 for kind in TOKEN_KINDS}}


def _made_alike(source: Path, turn: Turn, fingerprint: str, reads: Sequence[str]) -> pa.Table:
    rows = pyarrow.dataset.dataset([str(part) for part in durable_records(source).parts], schema=RECORD_SCHEMA)
    alike = (pc.field(f"{turn}_fingerprint") == fingerprint) & pc.is_valid(pc.field(turn))
    return rows.to_table(columns=[ID_COLUMN, *reads, *columns_of(turn)], filter=alike)


def _known(work: pa.Table, alike: Sequence[pa.Table], turn: Turn, reads: Sequence[str]) -> pa.Table:
    """The stage's columns for each row of the work list that a source has, by id; the first source's where several have it."""
    nothing = RECORD_SCHEMA.empty_table().select([ID_COLUMN, *reads, *columns_of(turn)])
    found, keys = pa.concat_tables([nothing, *alike]), [ID_COLUMN, *reads]
    if not set(keys) <= set(work.column_names):  # what it reads is to be made first
        return found.slice(0, 0).select([ID_COLUMN, *columns_of(turn)])
    numbered = found.append_column(ROW, pa.array(range(found.num_rows), pa.int64()))
    same = _comparable(numbered, keys).join(_comparable(work, keys).select(keys), keys, join_type="inner")
    first = same.group_by(ID_COLUMN).aggregate([(ROW, "min")])[f"{ROW}_min"]
    return found.take(first).select([ID_COLUMN, *columns_of(turn)])


def _comparable(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows with no reference answer being the same as none, which null is not in a join."""
    if "reference_answer" not in keys:
        return rows
    place = rows.schema.get_field_index("reference_answer")
    return rows.set_column(place, "reference_answer", pc.fill_null(rows["reference_answer"], "\0"))
