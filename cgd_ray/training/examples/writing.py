"""Selected records -> tokenised examples in a Parquet file that packing reads; which ones, preparation.py decides.

How to use: `make_examples(config.training, chat, prompts, run.selected, run.examples)`.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import atomic_write, read_manifest, write_manifest
from cgd_ray.training.examples.preparation import Preparation, Prepared, Side, selected_parts

EXAMPLE_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),  # prompt, target, end token
        ("prompt_length", pa.int32()),  # loss on input_ids[prompt_length:] and nowhere else; at least 1
    ]
)
ROWS_PER_BATCH = 1024  # written at once; bounds memory


def make_examples(
    training: TrainingConfig,
    chat: Chat,
    prompts: Prompts,
    selected: Path,
    examples: Path,
    on_progress: Callable[[int], None] = lambda rows: None,
    side: Side = "training",
) -> dict[str, Any]:
    """Write examples/examples.parquet (EXAMPLE_SCHEMA) and its manifest; returns the counts that the manifest holds.

    With training.validation set, `side` says which part of the split is meant. Raises ValueError when the records lack a column of an
    arm or are of another version, or when no example is left.
    """
    started, parts = time.monotonic(), selected_parts(selected)
    preparation = Preparation(training, chat, prompts, parts, side)
    stream = iter(preparation)
    seen = 0
    output = examples / "examples.parquet"
    with atomic_write(output) as temporary, pq.ParquetWriter(temporary, EXAMPLE_SCHEMA) as writer:
        while batch := list(islice(stream, ROWS_PER_BATCH)):
            writer.write_table(example_table(batch))
            on_progress(preparation.num_seen - seen)
            seen = preparation.num_seen
        if preparation.num_examples == 0:
            raise nothing_left(training, preparation.dropped, side)
    on_progress(sum(pq.read_metadata(part).num_rows for part in parts) - seen)
    details = {**preparation.report(), "seconds": time.monotonic() - started}
    manifest = read_manifest(selected)
    assert manifest is not None, "selected_parts has read it above"
    write_manifest(examples, manifest["fingerprint"], [output], details)
    return details


def nothing_left(training: TrainingConfig, dropped: Mapping[str, int], side: Side = "training") -> ValueError:
    """What to raise when no record has become an example."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "no record was kept by the selection"
    if side == "validation":
        return ValueError(f"training.validation leaves nothing to validate on for arm {training.arm_label}: {reasons}; raise its fraction")
    return ValueError(
        f"nothing to train on for arm {training.arm_label}: {reasons}; loosen selection, "
        "raise training.context_length or the budget, or generate what is missing (no_direct: generation.direct_answers=true)"
    )


def write_examples(examples: Mapping[str, Example], directory: Path, fingerprint: str) -> None:
    """Publish ready-made examples, by record id, in the form that packing reads; for corpora that do not come from records."""
    rows = [{"record_id": name, "input_ids": item.input_ids, "prompt_length": item.prompt_length} for name, item in examples.items()]
    output = directory / "examples.parquet"
    with atomic_write(output) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), temporary)
    write_manifest(directory, fingerprint, [output], {"examples": len(rows)})


def example_table(examples: Iterable[Prepared]) -> pa.Table:
    """EXAMPLE_SCHEMA."""
    rows = [
        {"record_id": item.record_id, "input_ids": item.example.input_ids, "prompt_length": item.example.prompt_length} for item in examples
    ]
    return pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA)
