"""Selected records -> tokenised examples of one arm, in record order.

An example longer than the context is dropped and counted, never cut: a shortened refinement would teach the student to stop early, a
shortened critique would teach it to guess. How to use: `make_examples(config.training, chat, prompts, run.selected, run.examples)`.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.chat import Chat, Example
from cgd_ray.config import TrainingConfig
from cgd_ray.prompts import Prompts
from cgd_ray.rundir import atomic_write, manifest_parts, read_manifest, write_manifest
from cgd_ray.training.arms import ARMS, REQUIRED_COLUMNS, check_columns
from cgd_ray.training.held_out import is_held_out

Side = Literal["training", "validation"]

EXAMPLE_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),  # prompt, target, end token
        ("prompt_length", pa.int32()),  # loss on input_ids[prompt_length:] and nowhere else; at least 1
    ]
)
ROWS_PER_BATCH = 1024  # tokenised and written at once; bounds memory


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

    With training.validation set, `side` says which part of the split is meant. Raises ValueError when the records lack a column of the
    arm, or when no example is left.
    """
    started = time.monotonic()
    counts: Counter[str] = Counter()
    parts = manifest_parts(selected)
    check_columns(training.arm, pq.read_schema(parts[0]).names)
    columns = ["record_id", "problem_id", "drop_reason", *REQUIRED_COLUMNS[training.arm]]
    output = examples / "examples.parquet"
    with atomic_write(output) as temporary, pq.ParquetWriter(temporary, EXAMPLE_SCHEMA) as writer:
        for part in parts:
            for batch in pq.ParquetFile(part).iter_batches(ROWS_PER_BATCH, columns=columns):
                rows = [row for row in batch.to_pylist() if row["drop_reason"] is None]
                rows = [row for row in rows if _belongs(row, training, side, counts)]
                made = [made for row in rows if (made := _example_row(row, training, chat, prompts, counts)) is not None]
                writer.write_table(pa.Table.from_pylist(made, schema=EXAMPLE_SCHEMA))
                on_progress(batch.num_rows)
        num_examples = counts.pop("examples", 0)
        if num_examples == 0:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "no record was kept by the selection"
            if side == "validation":
                raise ValueError(f"training.validation leaves nothing to validate on for arm {training.arm}: {reasons}; raise its fraction")
            raise ValueError(f"nothing to train on for arm {training.arm}: {reasons}; loosen selection or raise training.context_length")
    details = {"arm": training.arm, "examples": num_examples, "dropped": dict(counts), "seconds": time.monotonic() - started}
    manifest = read_manifest(selected)
    assert manifest is not None, "manifest_parts has read it above"
    write_manifest(examples, manifest["fingerprint"], [output], details)
    return details


def write_examples(examples: Mapping[str, Example], directory: Path, fingerprint: str) -> None:
    """Publish ready-made examples, by record id, in the form that packing reads; for corpora that do not come from records."""
    rows = [{"record_id": name, "input_ids": item.input_ids, "prompt_length": item.prompt_length} for name, item in examples.items()]
    output = directory / "examples.parquet"
    with atomic_write(output) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), temporary)
    write_manifest(directory, fingerprint, [output], {"examples": len(rows)})


def _belongs(row: Mapping[str, Any], training: TrainingConfig, side: Side, counts: Counter[str]) -> bool:
    """Whether the record is on this side of the split; what is not is counted."""
    held_out = training.validation is not None and is_held_out(row["problem_id"], training.validation.fraction)
    belongs = held_out == (side == "validation")
    if not belongs:
        counts["held_out" if held_out else "trained_on"] += 1
    return belongs


def _example_row(
    row: Mapping[str, Any], training: TrainingConfig, chat: Chat, prompts: Prompts, counts: Counter[str]
) -> dict[str, Any] | None:
    for name in REQUIRED_COLUMNS[training.arm]:
        if not row[name]:
            counts[f"no_{name}"] += 1
            return None
    arm_example = ARMS[training.arm](row, prompts)
    example = chat.example(arm_example.messages, arm_example.target)
    if len(example.input_ids) > training.context_length:
        counts["over_context_length"] += 1
        return None
    counts["examples"] += 1
    return {"record_id": row["record_id"], "input_ids": example.input_ids, "prompt_length": example.prompt_length}
