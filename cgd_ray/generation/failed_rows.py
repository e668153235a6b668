"""Takes rows that failed out of a generation, finished or not, so that they are made again and every row is there once.

First the ids are written down. While that file is there, parts are written again without those rows and the files of ids without those ids,
after however many kills, and no row is made before it is gone. A finished generation is made an unfinished one beforehand: what was made
of its records so far, but for a training, is declared unfinished too. Rows that the source has spoiled stay as they are.
How to use: `if has_failed_rows(config, run): ...`; `give_another_try(run, flow)`, and at each start `take_out(flow)`.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.config import Config
from cgd_ray.data.durable import BEGUN, IDS, committed, durable_records, parts_of
from cgd_ray.data.rundir import RunDir, atomic_write, read_json, read_manifest, write_json
from cgd_ray.generation.dataflow import ID_COLUMN, Dataflow, row_batches
from cgd_ray.generation.progress import ENGINE_MS
from cgd_ray.generation.reuse import Reused
from cgd_ray.generation.suspects import DEATHS, SUSPECTS

TAKEN_OUT = "taken_out.parquet"
"""File in the state with the ids of the rows that are being taken out."""
LEDGER, REUSED = "ledger.json", "reused.json"
"""Files in the state: how long engines have existed; what a generation that was finished once had taken from other runs."""


def has_failed_rows(config: Config, run: RunDir) -> bool:
    """Whether there may be something to make again. Raises ValueError where it is too late, or not this run's to make."""
    if config.records is not None:
        raise ValueError(f"--retry-failed makes rows again, but records is {config.records}, so none are made here; leave one of them out")
    if config.training.streaming:
        raise ValueError("--retry-failed with training.streaming true: the steps are dealt out already; choose another run_dir with reuse")
    manifest = read_manifest(run.records)
    if manifest is not None and manifest["failed"] and _is_trained_on(run):
        raise ValueError(
            f"--retry-failed would change the {manifest['rows']:,} records of {run.root}, on which its student is trained already; choose "
            f"another run_dir with generation.reuse=[{run.records}], which makes the {manifest['failed']:,} failed ones alone"
        )
    return bool(manifest["failed"]) if manifest is not None else (run.generation_state / BEGUN).exists()


def give_another_try(run: RunDir, flow: Dataflow) -> None:
    """Write down the rows that have failed, for take_out(); a finished generation becomes an unfinished one for that."""
    flow.drop_uncommitted()
    if read_manifest(run.records) is None and not (flow.state / BEGUN).exists():
        return
    failed = _failed(durable_records(run.records).parts, flow.work_list)
    if not len(failed):
        return
    if read_manifest(run.records) is not None:
        _reopen(run, flow.state)
    with atomic_write(flow.state / TAKEN_OUT) as temporary:
        pq.write_table(pa.table({ID_COLUMN: failed}), temporary)


def take_out(flow: Dataflow) -> None:
    """Take out what is written down, be it by a driver that was killed in the middle."""
    file = flow.state / TAKEN_OUT
    if not file.exists():
        return
    flow.drop_uncommitted()
    failed = pq.read_table(file)[ID_COLUMN]
    commits = committed(flow.checkpoint)
    for table in (*parts_of(commits, flow.output), *commits):
        _write_without(table, failed)
    (flow.state / SUSPECTS / DEATHS).unlink(missing_ok=True)  # a row that has seen three would not be let in again
    file.unlink()


def _is_trained_on(run: RunDir) -> bool:
    return run.model.exists() or run.training_report.exists() or any(run.checkpoints.glob("*"))


def _failed(parts: Iterable[Path], work_list: Path) -> "pa.Array[Any]":
    """Ids of rows that have an error which their problem had not."""
    spoiled = _with_error([work_list])
    failed = _with_error(parts)
    return failed.filter(pc.invert(pc.is_in(failed, value_set=spoiled)))


def _with_error(files: Iterable[Path]) -> "pa.Array[Any]":
    found: list[pa.Array[Any]] = [pa.array([], pa.string())]
    for file in files:
        found += [rows[ID_COLUMN].filter(pc.is_valid(rows["error"])) for rows in row_batches(pq.ParquetFile(file), [ID_COLUMN, "error"])]
    return pa.concat_arrays(found)


def _write_without(file: Path, ids: "pa.ChunkedArray[Any]") -> None:
    rows = pq.read_table(file)
    kept = rows.filter(pc.invert(pc.is_in(rows[ID_COLUMN], value_set=ids)))
    if kept.num_rows < rows.num_rows:
        with atomic_write(file) as temporary:
            pq.write_table(kept, temporary)


def _reopen(run: RunDir, state: Path) -> None:
    """Make an unfinished generation of a finished one. Its manifest goes last: until then it is a finished one, of which less was made."""
    manifest = read_manifest(run.records)
    assert manifest is not None, "the caller has seen it"
    for made in (run.packed, run.validation_packed, run.examples, run.validation_examples, run.selected):
        (made / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(state, ignore_errors=True)
    write_json(state / LEDGER, {f"{role}{ENGINE_MS}": round(1000 * seconds) for role, seconds in manifest["engine_seconds"].items()})
    write_json(state / REUSED, manifest["reused"])
    parts = [run.records / part["path"] for part in manifest["parts"]]
    for name in {part.stem.rpartition("-")[0] for part in parts}:  # Ray numbers the parts of one file of ids
        tables = [pq.read_table(part, columns=[ID_COLUMN]) for part in parts if part.stem.rpartition("-")[0] == name]
        with atomic_write(state / IDS / f"{name}.parquet") as temporary:
            pq.write_table(pa.concat_tables(tables), temporary)
    write_json(state / BEGUN, {"fingerprint": manifest["fingerprint"], "version": manifest["version"]})
    (run.records / "manifest.json").unlink()


def with_reused_before(reused: Reused, state: Path) -> Reused:
    """What is taken from other runs now, and what a generation that was finished once had taken, as its manifest said."""
    before: Reused = read_json(state / REUSED) or {}  # type: ignore[assignment]
    added = {turn: {kind: count + reused.get(turn, {}).get(kind, 0) for kind, count in counts.items()} for turn, counts in before.items()}
    return {**reused, **added}
