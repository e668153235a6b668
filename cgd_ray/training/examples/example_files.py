"""Examples on the disk, between making and packing: Arrow files that are mapped into memory, and an index that says where each example is.

Packing puts together what is far apart, so any example must be read alone, without the rest of its file. The index, 16 bytes an example in
the order of the record ids, is all that the driver looks at.
How to use: `with example_writer(path) as writer: writer.write(example_table(...))`, `write_index(directory, index)`, then
`examples = ExampleFiles(directory); examples.take(examples.index_E[5:8])`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from cgd_ray.data.chat import Example
from cgd_ray.data.rundir import atomic_write, manifest_parts, write_manifest

EXAMPLE_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),  # prompt, target, end token
        ("prompt_length", pa.int32()),  # loss on input_ids[prompt_length:] and nowhere else; at least 1
    ]
)
INDEX_TYPE = np.dtype([("file", "i4"), ("row", "i4"), ("num_tokens", "i4"), ("num_targets", "i4")])
"""Where an example is, and how many tokens it has, all and those that carry loss."""
INDEX = "index.npy"
"""File with an entry for each example, by record id; an example that is in no entry was made and not taken."""


def example_file(directory: Path, number: int) -> Path:
    """Where the examples are that have this number in the index."""
    return directory / f"examples-{number:05}.arrow"


@contextmanager
def example_writer(path: Path) -> Iterator[pa.RecordBatchFileWriter]:
    """A writer of tables of EXAMPLE_SCHEMA; the file appears when it is complete."""
    with atomic_write(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, EXAMPLE_SCHEMA) as writer:
        yield writer


def example_table(examples: Iterable[tuple[str, Example]]) -> pa.Table:
    """EXAMPLE_SCHEMA, of record ids and their examples."""
    rows = [{"record_id": name, "input_ids": item.input_ids, "prompt_length": item.prompt_length} for name, item in examples]
    return pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA)


def write_index(directory: Path, num_examples: int, pieces: Iterable[np.ndarray]) -> Path:
    """Write the index (INDEX_TYPE), which is in the order of the record ids and comes in pieces."""
    header = {"descr": np.lib.format.dtype_to_descr(INDEX_TYPE), "fortran_order": False, "shape": (num_examples,)}
    with atomic_write(directory / INDEX) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for piece in pieces:
            stream.write(piece.tobytes())
    return directory / INDEX


def write_examples(examples: Mapping[str, Example], directory: Path, fingerprint: str) -> None:
    """Publish ready-made examples, by record id, in the form that packing reads; for corpora that do not come from records."""
    output, names = example_file(directory, 0), sorted(examples)
    with example_writer(output) as writer:
        writer.write(example_table((name, examples[name]) for name in names))
    index_E = np.zeros(len(names), INDEX_TYPE)
    index_E["row"] = np.arange(len(names))
    index_E["num_tokens"] = [len(examples[name].input_ids) for name in names]
    index_E["num_targets"] = [num_targets(examples[name]) for name in names]
    write_manifest(directory, fingerprint, [output, write_index(directory, len(names), [index_E])], {"examples": len(names)})


def num_targets(example: Example) -> int:
    """Tokens that carry loss; the first token has nothing before it that could predict it, so it is never one."""
    return len(example.input_ids) - max(example.prompt_length, 1)


class ExampleFiles:
    """Random access to the examples of a finished directory. Raises ValueError when it is unfinished."""

    def __init__(self, directory: Path) -> None:
        manifest_parts(directory)  # refuses what is unfinished
        self._directory = directory
        self.index_E = np.load(directory / INDEX, mmap_mode="r")

    def take(self, index_N: np.ndarray) -> pa.Table:
        """The examples (EXAMPLE_SCHEMA) of some entries of the index, in their order."""
        order_N = np.lexsort((index_N["row"], index_N["file"]))
        files_N, rows_N = index_N["file"][order_N], index_N["row"][order_N]
        starts = np.flatnonzero(np.diff(files_N, prepend=-1))
        pieces = [EXAMPLE_SCHEMA.empty_table()]
        for start, stop in pairwise([*starts.tolist(), len(files_N)]):
            pieces += _rows(example_file(self._directory, files_N[start]), rows_N[start:stop])
        table = pa.concat_tables(pieces).combine_chunks()
        return table.take(np.argsort(order_N))


def _rows(path: Path, rows: np.ndarray) -> Iterator[pa.Table]:
    """Copies of rows that are in rising order; nothing else of the file is read."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        first = 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            here = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
            if len(here):
                yield pa.Table.from_batches([batch.take(pa.array(here))])
            first += batch.num_rows
