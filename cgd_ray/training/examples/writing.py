"""Selected records -> tokenised examples in files that packing reads; which ones, choice.py decides.

How to use: `make_examples(config.training, chat, prompts, run.selected, run.examples)`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import read_manifest, write_manifest
from cgd_ray.process.host_memory import let_go_of_used_memory
from cgd_ray.training.examples.choosing.catalogue import Catalogue, Side
from cgd_ray.training.examples.choosing.choice import Choice, settings_of
from cgd_ray.training.examples.example_files import INDEX_TYPE, example_file, write_index
from cgd_ray.training.examples.preparation import selected_parts
from cgd_ray.training.examples.tokenising import Waves

ENTRIES_AT_ONCE = 2**16


def make_examples(
    training: TrainingConfig,
    chat: Chat,
    prompts: Prompts,
    selected: Path,
    examples: Path,
    on_progress: Callable[[int], None] = lambda rows: None,
    side: Side = "training",
) -> dict[str, Any]:
    """Write the example files (EXAMPLE_SCHEMA), their index and the manifest; returns the counts that the manifest holds.

    With training.validation set, `side` says which part of the split is meant. Raises ValueError when the records lack a column of an
    arm or are of another version, or when no example is left.
    """
    started, parts = time.monotonic(), selected_parts(selected)
    let_go_of_used_memory()  # columns of all records come and go
    examples.mkdir(parents=True, exist_ok=True)
    settings = settings_of(training, side)
    catalogue = Catalogue.read(settings, parts, side)
    order_R = catalogue.by_name()  # before anything else is held, as the sorting takes memory
    choice, waves = Choice(settings, catalogue, side), Waves(settings, prompts, chat, catalogue, examples, on_progress)
    index_R = _taken(choice, waves)
    files = [example_file(examples, number) for number in range(waves.num_files)]
    if choice.num_examples == 0:
        for file in files:
            file.unlink()
        raise nothing_left(training, choice.dropped, side)
    on_progress(sum(pq.read_metadata(part).num_rows for part in parts) - waves.num_records)
    index = write_index(examples, choice.num_examples, _pieces(index_R, order_R))
    details = {**choice.report(), "seconds": time.monotonic() - started}
    manifest = read_manifest(selected)
    assert manifest is not None, "selected_parts has read it above"
    write_manifest(examples, manifest["fingerprint"], [*files, index], details)
    return details


def _taken(choice: Choice, waves: Waves) -> np.ndarray:
    """INDEX_TYPE of the catalogue's records; one that is not taken has no tokens."""
    index_R = np.zeros(len(choice.catalogue), INDEX_TYPE)
    for item in choice.taken(waves.made):
        num_targets = min(item.num_targets, item.num_tokens - 1)  # nothing could predict the first token
        index_R[item.index] = (item.file, item.row, item.num_tokens, num_targets)
    return index_R


def _pieces(index_R: np.ndarray, order_R: np.ndarray) -> Iterator[np.ndarray]:
    """The entries of those that are taken, in this order, some at a time."""
    for start in range(0, len(order_R), ENTRIES_AT_ONCE):
        entries = index_R[order_R[start : start + ENTRIES_AT_ONCE]]
        yield entries[entries["num_tokens"] > 0]


def nothing_left(training: TrainingConfig, dropped: Mapping[str, int], side: Side = "training") -> ValueError:
    """What to raise when no record has become an example."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "no record was kept by the selection"
    if side == "validation":
        return ValueError(f"training.validation leaves nothing to validate on for arm {training.arm_label}: {reasons}; raise its fraction")
    return ValueError(
        f"nothing to train on for arm {training.arm_label}: {reasons}; loosen selection, "
        "raise training.context_length or the budget, or generate what is missing (no_direct: generation.direct_answers=true)"
    )
