"""Runs stages over a work list with Ray Data, so that a killed run goes on where it stopped and each row is written exactly once.

work list -> small blocks -> one actor pool per stage, at the same time -> Parquet parts under Ray Data's job-level checkpoint, which
commits in two phases the ids that a part holds. On a second run the committed ids are taken out of the work list here, in one
vectorised step, instead of by Ray's filter actors, which would want a CPU and a GiB of their own beside the engines.
"""

import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig, CheckpointManager

from cgd_ray.config import PlacementConfig
from cgd_ray.data.durable import IDS, PENDING_SUFFIX, committed, parts_of
from cgd_ray.data.ids import Ids
from cgd_ray.data.reasons import ReasonCounts
from cgd_ray.data.records import Turn
from cgd_ray.engines.groups import EngineGroups
from cgd_ray.generation.pools.elasticity import follow_work, rows_per_place
from cgd_ray.generation.pools.flow_control import keep_small
from cgd_ray.generation.reuse import TOKEN_KINDS
from cgd_ray.generation.stages import EngineStage, StageSpec
from cgd_ray.process.data_context import quiet_data_context

ID_COLUMN = "record_id"
NO_PROGRESS_TIMEOUT_S = 2 * 3600.0  # Ray's 30 minutes are less than a large model's load plus a long critique
NUM_WRITERS = 2
"""Processes that write parts; they reserve no CPU, so that engines which reserve all of them do not keep the parts from being written.
One reads the work list, without a CPU either, and waits with its next block until that is wanted."""
ROWS_AT_ONCE = 2**13
"""Rows of the work list, or of finished parts, that the driver holds at a time."""


@dataclass(frozen=True, kw_only=True)
class Dataflow:
    """One run of stages over one work list."""

    work_list: Path
    """Parquet with a unique record_id."""
    output: Path
    """Directory of the parts."""
    state: Path
    """Directory of what an unfinished run must remember, the committed ids first of all; outside `output`."""
    with_reused: Path | None = None
    """The work list with the columns that are taken from other runs; null when none are."""
    batch_size: int
    """Rows in one call of a stage."""
    rows_per_file: int
    """Least rows of a part, the unit of durable progress."""

    @property
    def checkpoint(self) -> Path:
        """Directory of the committed ids."""
        return self.state / IDS

    def finished_ids(self) -> "pa.Array[Any]":
        """Ids whose rows are durably written."""
        files = [pq.ParquetFile(file) for file in committed(self.checkpoint)]
        tables = [file.read([ID_COLUMN], use_threads=False) for file in files]
        return pa.concat_tables(tables)[ID_COLUMN].combine_chunks() if tables else pa.array([], pa.string())

    def finished_parts(self) -> list[Path]:
        """The files of those rows."""
        return parts_of(committed(self.checkpoint), self.output)

    def num_finished(self) -> int:
        """How many rows are durably written."""
        return sum(pq.read_metadata(file).num_rows for file in committed(self.checkpoint))

    def written(self, turns: Sequence[Turn]) -> "Written":
        """What is durably written, told in one look at each part, at what it says of itself and at its rows where some failed."""
        written = Written(made=dict.fromkeys(turns, 0))
        for part in self.finished_parts():
            written.add(part, turns)
        return written

    def run(self, stages: Sequence[tuple[type[EngineStage], StageSpec]]) -> None:
        """Bring every row of the work list through the stages into `output`. Rows that a former run has written are left alone."""
        for directory in (self.output, self.checkpoint):
            directory.mkdir(parents=True, exist_ok=True)
        self.drop_uncommitted()
        remaining = self.state / "remaining"
        files = self._write_remaining(remaining)
        if not files:
            return
        with quiet_data_context() as context, ExitStack() as groups:
            _set(context, self.checkpoint)
            # Ray cuts each file into equally many blocks, and a block is what an actor is called with
            num_blocks = len(files) * math.ceil(pq.read_metadata(files[0]).num_rows / self.batch_size)
            paths = [str(file) for file in files]
            dataset = ray.data.read_parquet(paths, override_num_blocks=num_blocks, num_cpus=0, concurrency=1)
            for stage, spec in stages:
                pool = _pool(spec.role.placement, self.batch_size, groups)
                # not map_batches, which is this with a check: where GPUs are asked for it demands a number of rows in place of a block
                dataset = dataset.map_batches_internal(stage, fn_constructor_args=(spec,), **pool)
            dataset.write_parquet(
                str(self.output), min_rows_per_file=self.rows_per_file, concurrency=NUM_WRITERS, ray_remote_args={"num_cpus": 0}
            )
        shutil.rmtree(remaining)

    def _write_remaining(self, directory: Path) -> list[Path]:
        """Write the rows that are still to be made in files of the same size, but for the last, with a few of them in memory at a time."""
        shutil.rmtree(directory, ignore_errors=True)
        finished, work = Ids(self.finished_ids()), pq.ParquetFile(self.with_reused or self.work_list)
        num_rows = work.metadata.num_rows - len(finished)
        if not num_rows:
            return []
        rows_per_file = math.ceil(num_rows / math.ceil(num_rows / ROWS_AT_ONCE))
        left = (batch.filter(finished.lacks(batch[ID_COLUMN])) for batch in row_batches(work))
        directory.mkdir()
        files: list[Path] = []
        for table in _tables(left, work.schema_arrow, rows_per_file):
            files.append(directory / f"{len(files):06}.parquet")
            pq.write_table(table, files[-1])
        return files

    def drop_uncommitted(self) -> None:
        """Remove the parts that a killed run began and did not commit, or was writing again over what it had committed."""
        for pending in self.checkpoint.glob(f"*{PENDING_SUFFIX}"):
            name = pending.name.removesuffix(PENDING_SUFFIX)
            # Ray repeats the task of a writer that died after its commit; the ids go first, so that no kill here leaves ids without rows
            (self.checkpoint / f"{name}.parquet").unlink(missing_ok=True)
            for part in self.output.glob(f"{name}*.parquet"):
                part.unlink()
            pending.unlink()


@dataclass(kw_only=True)
class Written:
    """What there is of an unfinished generation."""

    rows: int = 0
    made: dict[Turn, int]
    """How many of each turn."""
    unusable: int = 0
    """Rows that did not get the last of the turns without having failed."""
    errors: ReasonCounts = field(default_factory=ReasonCounts)

    def add(self, part: Path, turns: Sequence[Turn]) -> None:
        """Count the rows of a part."""
        ends, metadata = [f"{turn}_finish_reason" for turn in turns], pq.read_metadata(part)
        nulls, num_rows = _num_nulls(metadata, ["error", *ends]), metadata.num_rows
        self.rows += num_rows
        for turn, end in zip(turns, ends, strict=True):
            self.made[turn] += num_rows - nulls[end]
        if ends:
            self.unusable += nulls[ends[-1]]
        if nulls["error"] < num_rows:
            failed = pq.read_table(part, columns=["error", *ends[-1:]])
            failed = failed.filter(pc.is_valid(failed["error"]))
            for reason in failed["error"].to_pylist():
                self.errors.add(reason)
            if ends:
                self.unusable -= failed[ends[-1]].null_count


def _num_nulls(metadata: pq.FileMetaData, columns: Sequence[str]) -> dict[str, int]:
    """How many rows of a part have nothing in a column, as its writer has counted them."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    places = {name: place for place, name in enumerate(metadata.schema.names)}  # a record's columns are all flat
    return {name: sum(group.column(places[name]).statistics.null_count for group in groups) for name in columns}


def counted(parts: Sequence[Path], work_list: Path, turns: Sequence[Turn]) -> dict[str, Any]:
    """Rows, failures and tokens of finished parts. Raises ValueError unless they hold exactly the ids of the work list."""
    ids, expected = _IdSet(), _IdSet()
    errors = ReasonCounts()
    tokens: dict[Turn, Counter[str]] = {turn: Counter() for turn in turns}
    columns = [ID_COLUMN, "error", *[f"{turn}_{kind}" for turn in turns for kind in TOKEN_KINDS]]
    for rows in chain.from_iterable(row_batches(pq.ParquetFile(part), columns) for part in parts):
        ids.add(rows[ID_COLUMN])
        for reason in rows["error"].drop_null().to_pylist():
            errors.add(reason)
        for turn, counts in tokens.items():
            counts.update({kind: pc.sum(rows[f"{turn}_{kind}"]).as_py() or 0 for kind in TOKEN_KINDS})
    for rows in row_batches(pq.ParquetFile(work_list), [ID_COLUMN]):
        expected.add(rows[ID_COLUMN])
    if ids != expected:
        distinct = len(pc.unique(pyarrow.dataset.dataset([str(part) for part in parts]).to_table(columns=[ID_COLUMN])[ID_COLUMN]))
        raise ValueError(
            f"{parts[0].parent} holds {ids.count} rows with {distinct} distinct ids, the work list {expected.count}: another run "
            "writes there, or files were added or removed; choose another run_dir"
        )
    made = {turn: {kind: counts[kind] for kind in TOKEN_KINDS} for turn, counts in tokens.items()}
    return {"rows": ids.count, "failed": errors.total(), "errors": errors.most_common(), "tokens": made}


@dataclass
class _IdSet:
    """Tells two collections of ids apart in whatever order they come, without keeping them: how many they are and the sum of their hashes.

    A lost id and a doubled one go unseen only where their 64-bit hashes, which are other ones in each process, are the same.
    """

    count: int = 0
    hashes: int = 0

    def add(self, ids: "pa.Array[Any]") -> None:
        self.count += len(ids)
        self.hashes += sum(map(hash, ids.to_pylist()))


def _tables(batches: "Iterator[pa.RecordBatch]", schema: pa.Schema, num_rows: int) -> Iterator[pa.Table]:
    """The batches' rows, so many in a table, and the rest in the last."""
    waiting = schema.empty_table()
    for batch in batches:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while waiting.num_rows >= num_rows:
            yield waiting.slice(0, num_rows)
            waiting = waiting.slice(num_rows)
    if waiting.num_rows:
        yield waiting


def row_batches(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
    """A file's rows, some at a time; asked for all row groups at once, pyarrow would keep the former ones."""
    for row_group in range(file.num_row_groups):
        names = None if columns is None else list(columns)
        yield from file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[row_group], columns=names, use_threads=False)


class _FilteredBeforehand(CheckpointManager):
    """Tells Ray that nothing is left to filter out."""

    def load_checkpoint(self, data_file_dir: str | None = None, data_file_filesystem: Any = None) -> tuple[None, int]:
        """No ids, so no filter operator."""
        return None, 0


def _pool(placement: PlacementConfig, batch_size: int, groups: ExitStack) -> dict[str, Any]:
    """The arguments of map_batches_internal that make one role's actor pool; placement groups of its actors go when `groups` is closed."""
    calls = math.ceil(rows_per_place(batch_size) * placement.requests_in_flight / batch_size) + 1
    arguments: dict[str, Any] = {
        "batch_size": None,  # a block; with a number Ray waits for so many rows and then may call with almost twice as many
        "batch_format": "pyarrow",
        "compute": ActorPoolStrategy(
            min_size=placement.min_replicas,
            max_size=placement.max_replicas,
            max_tasks_in_flight_per_actor=calls,
            max_concurrent_calls_per_actor=calls,
        ),
        "num_cpus": placement.cpus_per_replica,
        "memory": 0,  # else Ray Data asks for a block's from the first block on, and an autoscaler adds no node of a kind that states none
    }
    if placement.nodes_per_replica > 1:
        engine_groups = EngineGroups(placement)
        groups.callback(engine_groups.remove)
        return {**arguments, "ray_remote_args_fn": engine_groups.arguments}
    if placement.gpus_per_replica:
        arguments["num_gpus"] = placement.gpus_per_replica
    if placement.accelerator_type is not None:
        arguments["accelerator_type"] = placement.accelerator_type
    if placement.label_selector:
        arguments["label_selector"] = dict(placement.label_selector)
    return arguments


def _set(context: DataContext, checkpoint: Path) -> None:
    """Ray Data's settings for one dataflow."""
    context.checkpoint_config = CheckpointConfig(
        id_column=ID_COLUMN,
        checkpoint_path=str(checkpoint),
        delete_checkpoint_on_success=False,  # the manifest is written after that, and a kill in between must not start anew
        checkpoint_manager_cls=_FilteredBeforehand,
    )
    context.use_datasource_v2 = False  # the newer reader gives one block per file whatever is asked for
    context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
    keep_small(context)
    follow_work(context)
