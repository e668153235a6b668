"""Examples -> packed rows of at most context_length tokens: first-fit-decreasing, global and deterministic.

Packing is done once, over all examples, so that every rank of every run sees the same rows and takes the same number of steps. Rows
hold whole examples only; the boundaries travel with them, and no attention crosses them (attention.py).
How to use: `report = pack(training.context_length, run.examples, run.packed)`.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.data.rundir import atomic_write, manifest_parts, read_manifest, write_manifest

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


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of indices into `lengths`, each bin's lengths adding up to at most capacity; longest first, ties in the given order.

    A max-tree over the bins' free space finds the first bin that fits in O(log n).
    """
    size = 1 << max(len(lengths) - 1, 0).bit_length()
    free = [capacity] * (2 * size)
    bins: list[list[int]] = []
    for index in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        length = lengths[index]
        if not 0 < length <= capacity:
            raise ValueError(
                f"example {index} has {length} tokens, which does not fit into rows of {capacity}; raise training.context_length"
            )
        node = 1
        while node < size:
            node = 2 * node if free[2 * node] >= length else 2 * node + 1
        if node - size == len(bins):
            bins.append([])
        bins[node - size].append(index)
        free[node] -= length
        while node > 1:
            node //= 2
            free[node] = max(free[2 * node], free[2 * node + 1])
    return bins


def pack(context_length: int, examples: Path, packed: Path) -> dict[str, Any]:
    """Write packed/packed.parquet (PACKED_SCHEMA) and its manifest; returns what the manifest reports.

    The report: examples, rows, tokens, target_tokens, fill (tokens / (rows x context_length)), seconds.
    """
    started = time.monotonic()
    table = pa.concat_tables(pq.read_table(part) for part in manifest_parts(examples))
    table = table.sort_by("record_id").combine_chunks()  # generation finishes rows in another order every time
    lengths = pc.list_value_length(table["input_ids"]).to_numpy()
    bins = first_fit_decreasing(lengths.tolist(), context_length)
    output = packed / "packed.parquet"
    num_targets = 0
    with atomic_write(output) as temporary, pq.ParquetWriter(temporary, PACKED_SCHEMA, compression="none", use_dictionary=False) as writer:
        for start in range(0, len(bins), ROWS_PER_GROUP):
            rows = packed_rows(table, bins[start : start + ROWS_PER_GROUP])
            num_targets += pc.sum(rows["num_targets"]).as_py()
            writer.write_table(rows)
    tokens = int(lengths.sum())
    report = {
        "examples": table.num_rows,
        "rows": len(bins),
        "context_length": context_length,
        "tokens": tokens,
        "target_tokens": num_targets,
        "fill": tokens / (len(bins) * context_length),
        "seconds": time.monotonic() - started,
    }
    manifest = read_manifest(examples)
    assert manifest is not None, "manifest_parts has read it above"
    write_manifest(packed, manifest["fingerprint"], [output], report)
    return report


def packed_rows(table: pa.Table, bins: Sequence[Sequence[int]]) -> pa.Table:
    """One row per bin; the lists of the bin's examples are joined without touching single tokens."""
    taken = table.take(pa.array([index for members in bins for index in members])).combine_chunks()
    ids = taken["input_ids"].combine_chunks()
    lengths = pc.list_value_length(ids).to_numpy()
    # The first token of an example has nothing before it that could predict it, so it is never a target.
    prompts = np.maximum(taken["prompt_length"].to_numpy(), 1).astype(np.int32)
    of_examples = np.concatenate([[0], np.cumsum([len(members) for members in bins])]).astype(np.int32)
    of_tokens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)[of_examples]
    targets = np.add.reduceat(lengths - prompts, of_examples[:-1]).astype(np.int32)
    tokens = np.diff(of_tokens)

    def per_row(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(of_examples, values)

    columns = [
        pa.ListArray.from_arrays(of_tokens, ids.flatten()),
        per_row(pa.array(lengths.astype(np.int32))),
        per_row(pa.array(prompts)),
        per_row(taken["record_id"].combine_chunks()),
        pa.array(tokens),
        pa.array(targets),
    ]
    return pa.Table.from_arrays(columns, schema=PACKED_SCHEMA)
