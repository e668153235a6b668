"""Examples -> packed rows of at most context_length tokens: first-fit-decreasing, global and deterministic.

Packing is done once, over all examples, so that every rank of every run sees the same rows and takes the same number of steps. Rows
hold whole examples only; the boundaries travel with them, and no attention crosses them (attention.py). The driver decides by the lengths
alone, about 40 bytes an example; the tokens are brought together file by file, on all CPUs where there are many.
How to use: `report = pack(training.context_length, run.examples, run.packed)`.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.data.rundir import atomic_write, read_manifest, write_manifest
from cgd_ray.process.spreading import in_turn, is_worth_spreading, spread
from cgd_ray.training.examples.bins import Bins, first_fit_decreasing
from cgd_ray.training.examples.example_files import ExampleFiles

PACKED_SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),  # the row's examples one after the other, no padding
        ("lengths", pa.list_(pa.int32())),  # tokens of each example
        ("prompt_lengths", pa.list_(pa.int32())),  # of these, how many are prompt: no loss on them
        ("record_ids", pa.list_(pa.string())),
        ("num_tokens", pa.int32()),
        ("num_targets", pa.int32()),  # tokens of the row that carry loss
    ]
)
ROWS_PER_GROUP = 16  # a training worker reads one row group per row it needs, so groups are small
TOKENS_PER_FILE = 2**25
"""At most, since a file's tokens are in memory while it is written; and a list's offsets are 32 bits wide."""
ROWS_PER_FILE = 2**14
"""At most, since who reads a file has all its row groups' places in memory."""
SIZES = "sizes.npy"
"""File with SIZES_TYPE for each packed row, so that nobody has to read the rows to know how long they are."""
SIZES_TYPE = np.dtype([("num_tokens", "i4"), ("num_targets", "i4"), ("squares", "i8")])
"""Tokens of a row, those that carry loss, and the sum of its examples' squared lengths, which attention's work grows with."""
FEW_EXAMPLES = 50_000
"""Up to which they are packed in this process, at some 20,000 a second."""


def pack(context_length: int, examples: Path, packed: Path) -> dict[str, Any]:
    """Write packed/packed-*.parquet (PACKED_SCHEMA), their sizes and the manifest; returns what the manifest reports.

    The report: examples, rows, rows_per_file (of all files but the last), tokens, target_tokens, fill (tokens / (rows x context_length)),
    seconds. Raises ValueError for an example that is longer than context_length.
    """
    started = time.monotonic()
    pa.default_memory_pool().release_unused()  # what making the examples took
    index_E = ExampleFiles(examples).index_E  # in the order of their ids, however they came
    num_tokens_E, num_targets_E = (np.ascontiguousarray(index_E[name]) for name in ("num_tokens", "num_targets"))
    del index_E  # mapped, so what has been read of it is this process's memory
    bins = first_fit_decreasing(num_tokens_E, context_length)
    sizes_B = _sizes(bins, num_tokens_E, num_targets_E)
    rows_per_file = _rows_per_file(context_length)
    outputs = [packed / f"packed-{number:05}.parquet" for number in range(-(-len(bins) // rows_per_file))]
    packed.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bins-", dir=packed) as plan:
        np.save(Path(plan) / "members.npy", bins.members_E)
        np.save(Path(plan) / "ends.npy", bins.ends_B)
        arguments = (examples, Path(plan), rows_per_file, outputs)
        for _ in (spread if is_worth_spreading(len(num_tokens_E), FEW_EXAMPLES) else in_turn)(Packing, arguments, len(outputs)):
            pass
    with atomic_write(packed / SIZES) as temporary, temporary.open("wb") as stream:
        np.save(stream, sizes_B)
    tokens = int(sizes_B["num_tokens"].sum(dtype=np.int64))
    report = {
        "examples": len(num_tokens_E),
        "rows": len(bins),
        "rows_per_file": rows_per_file,
        "context_length": context_length,
        "tokens": tokens,
        "target_tokens": int(sizes_B["num_targets"].sum(dtype=np.int64)),
        "fill": tokens / (len(bins) * context_length),
        "seconds": time.monotonic() - started,
    }
    manifest = read_manifest(examples)
    assert manifest is not None, "ExampleFiles has read it above"
    write_manifest(packed, manifest["fingerprint"], [*outputs, packed / SIZES], report)
    return report


def num_packed_rows(examples: Path, context_length: int) -> int:
    """Rows that pack() would write. Raises ValueError for an example that is longer than context_length."""
    return len(first_fit_decreasing(np.ascontiguousarray(ExampleFiles(examples).index_E["num_tokens"]), context_length))


class Packing:
    """The writing of one file of packed rows after the other, a piece of work each (process/spreading.py)."""

    def __init__(self, examples: Path, plan: Path, rows_per_file: int, outputs: list[Path]) -> None:
        members_E, ends_B = (np.load(plan / name, mmap_mode="r") for name in ("members.npy", "ends.npy"))
        self._bins = Bins(members_E=members_E, ends_B=ends_B)
        self._examples, self._rows_per_file, self._outputs = ExampleFiles(examples), rows_per_file, outputs

    def __call__(self, number: int) -> None:
        """Write one file."""
        bins = self._bins.part(number * self._rows_per_file, min((number + 1) * self._rows_per_file, len(self._bins)))
        table = self._examples.take(self._examples.index_E[bins.members_E])
        with (
            atomic_write(self._outputs[number]) as temporary,
            pq.ParquetWriter(temporary, PACKED_SCHEMA, compression="none", use_dictionary=False, write_statistics=False) as writer,
        ):
            for start in range(0, len(bins), ROWS_PER_GROUP):
                group = bins.part(start, min(start + ROWS_PER_GROUP, len(bins)))
                writer.write_table(packed_rows(table.slice(bins.ends_B[start], len(group.members_E)), group.ends_B))

    def close(self) -> None:
        """Nothing is held open."""


def packed_rows(examples: pa.Table, ends_B: np.ndarray) -> pa.Table:
    """One row per bin of examples that follow one another; their lists are joined without touching single tokens."""
    examples = examples.combine_chunks()
    ids = examples["input_ids"].combine_chunks()
    lengths = pc.list_value_length(ids).to_numpy()
    # The first token of an example has nothing before it that could predict it, so it is never a target.
    prompts = np.maximum(examples["prompt_length"].to_numpy(), 1).astype(np.int32)
    of_examples = ends_B.astype(np.int32)
    of_tokens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)[of_examples]
    targets = np.add.reduceat(lengths - prompts, of_examples[:-1]).astype(np.int32)

    def per_row(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(of_examples, values)

    columns = [
        pa.ListArray.from_arrays(of_tokens, ids.flatten()),
        per_row(pa.array(lengths.astype(np.int32))),
        per_row(pa.array(prompts)),
        per_row(examples["record_id"].combine_chunks()),
        pa.array(np.diff(of_tokens)),
        pa.array(targets),
    ]
    return pa.Table.from_arrays(columns, schema=PACKED_SCHEMA)


def _sizes(bins: Bins, num_tokens_E: np.ndarray, num_targets_E: np.ndarray) -> np.ndarray:
    sizes_B = np.empty(len(bins), SIZES_TYPE)
    sizes_B["num_tokens"], sizes_B["num_targets"] = bins.sums(num_tokens_E), bins.sums(num_targets_E)
    sizes_B["squares"] = bins.sums(np.square(num_tokens_E, dtype=np.int64))
    return sizes_B


def _rows_per_file(context_length: int) -> int:
    """Whole row groups; it depends on nothing else, so that a row's number tells its file."""
    groups = min(TOKENS_PER_FILE // context_length, ROWS_PER_FILE) // ROWS_PER_GROUP
    return max(groups, 1) * ROWS_PER_GROUP
