"""Takes from records of other runs, finished or not, the columns that this run would make alike: same row, same fingerprint.

A fingerprint covers all settings behind a column, those of the columns before it too, so a new critique prompt keeps the attempts, and a
new student keeps nothing. Settings are not texts: two runs with the same ones may have sampled different attempts, so a critique is taken
only with the very attempt that it is about. How to use: `reused = take_over(work_list, sources, fingerprints, with_reused, finished)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.data.durable import durable_records
from cgd_ray.data.fetching import fetch
from cgd_ray.data.ids import ABSENT, Ids
from cgd_ray.data.records import RECORD_SCHEMA, Turn, columns_of
from cgd_ray.data.rundir import atomic_write

ID_COLUMN = "record_id"
MADE_FROM: dict[Turn, tuple[str, ...]] = {
    "attempt": ("question",),
    "critique": ("question", "attempt"),
    "refinement": ("question", "attempt", "critique"),
    "direct": ("question",),
}
"""Turn -> the columns that it reads of a row."""
ROWS_AT_ONCE = 1024
"""Rows whose texts are in memory together."""
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
    done, work = Ids(finished), pq.ParquetFile(work_list)
    with pq.ParquetFile(with_reused if with_reused.exists() else work_list) as before:
        known = [_Source(source, fingerprints) for source in sources]
        columns = _columns(before, [turn for turn in fingerprints if any(source.has(turn) for source in known)])
        reused = {turn: dict.fromkeys(("rows", *TOKEN_KINDS), 0) for turn in fingerprints}
        with atomic_write(with_reused) as temporary, pq.ParquetWriter(temporary, columns) as writer:
            for rows in _batches(before):
                _write(rows.filter(pc.invert(done.lacks(rows[ID_COLUMN]))), writer, reused)
            for rows in _batches(work):
                left = rows.filter(done.lacks(rows[ID_COLUMN]))
                for turn in fingerprints:
                    left = _with_turn(left, known, turn, _read_by(turn, refines_by_grade))
                _write(left, writer, reused)
    return reused


def _read_by(turn: Turn, refines_by_grade: bool) -> tuple[str, ...]:
    """The columns that must be the same for a turn to be taken over."""
    return (*MADE_FROM[turn], "reference_answer") if turn == "refinement" and refines_by_grade else MADE_FROM[turn]


class _Source:
    """What another run has: names and places are in memory, texts are read for some rows at a time."""

    def __init__(self, records: Path, fingerprints: Mapping[Turn, str]) -> None:
        self._parts = durable_records(records).parts
        tables = [_alike(part, number, fingerprints) for number, part in enumerate(self._parts)]
        self._index = pa.concat_tables(tables).combine_chunks() if tables else None
        self._ids = Ids(pa.array([], pa.string()) if self._index is None else self._index[ID_COLUMN])

    def has(self, turn: Turn) -> bool:
        """Whether there is any row in which it was made alike."""
        return self._index is not None and bool(pc.any(self._index[turn]).as_py())

    def made_alike(self, ids: pa.ChunkedArray, turn: Turn, reads: Sequence[str]) -> pa.Table:
        """What the stage reads and writes of those rows among these in which it was made alike."""
        schema = pa.schema([RECORD_SCHEMA.field(name) for name in (ID_COLUMN, *reads, *columns_of(turn))])
        if self._index is None:
            return schema.empty_table()
        places = self._ids.find(ids)
        found = self._index.take(places[places != ABSENT])
        found = found.filter(found[turn])
        if not found.num_rows:
            return schema.empty_table()
        rows = fetch(self._parts, found["file"].to_numpy(), found["row"].to_numpy(), schema.names)
        return _completed(rows, schema).filter(pc.is_valid(rows[turn]))


def _alike(part: Path, number: int, fingerprints: Mapping[Turn, str]) -> pa.Table:
    """The ids of a file of records, where they are, and for each turn whether it has our fingerprint."""
    with pq.ParquetFile(part) as file:
        table = file.read(columns=[ID_COLUMN, *(f"{turn}_fingerprint" for turn in fingerprints)], use_threads=False)
    alike: dict[str, Any] = dict.fromkeys(fingerprints, pa.array(np.zeros(table.num_rows, bool)))
    for turn, fingerprint in fingerprints.items():
        if (name := f"{turn}_fingerprint") in table.column_names:
            alike[turn] = pc.fill_null(pc.equal(table[name], fingerprint), False)
    rows, files = np.arange(table.num_rows, dtype=np.int32), np.full(table.num_rows, number, np.int32)
    return pa.table({ID_COLUMN: table[ID_COLUMN], "file": files, "row": rows, **alike})


def _columns(before: pq.ParquetFile, turns: Sequence[Turn]) -> pa.Schema:
    """Those of the work list, of what was found before, and of the turns for which there is anything."""
    names = {*before.schema_arrow.names, *(name for turn in turns for name in columns_of(turn))}
    return pa.schema([field for field in RECORD_SCHEMA if field.name in names])


def _batches(file: pq.ParquetFile) -> Iterator[pa.Table]:
    for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
        yield pa.Table.from_batches([batch])


def _with_turn(work: pa.Table, sources: Sequence[_Source], turn: Turn, reads: Sequence[str]) -> pa.Table:
    """The rows with a stage's columns where a source has them, null where none has."""
    known = _known(work, [source.made_alike(work[ID_COLUMN], turn, reads) for source in sources], turn, reads)
    if not known.num_rows:
        return work
    places = pc.index_in(work[ID_COLUMN], value_set=known[ID_COLUMN])
    for name in columns_of(turn):
        work = work.append_column(RECORD_SCHEMA.field(name), known[name].take(places))
    return work


def _write(rows: pa.Table, writer: pq.ParquetWriter, reused: Reused) -> None:
    rows = _completed(rows, writer.schema)
    writer.write_table(rows)
    for turn, counts in reused.items():
        if turn in rows.column_names:
            counts["rows"] += rows.num_rows - rows[turn].null_count
            for kind in TOKEN_KINDS:
                counts[kind] += pc.sum(rows[f"{turn}_{kind}"]).as_py() or 0


def _completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows in the schema's columns, with null in those that they lack."""
    columns = [rows[field.name] if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


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
