"""Selected records -> tokenised examples in files that packing reads; which ones, choice.py decides.

How to use: `make_examples(config.training, chat, prompts, run.selected, run.examples)`.
"""

import time
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import read_manifest, write_manifest
from cgd_ray.training.examples.choosing.catalogue import Catalogue, Side
from cgd_ray.training.examples.choosing.choice import Choice, settings_of
from cgd_ray.training.examples.example_files import INDEX_COLUMNS, INDEX_TYPE, example_file, write_index
from cgd_ray.training.examples.preparation import selected_parts
from cgd_ray.training.examples.tokenising import Waves


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
    examples.mkdir(parents=True, exist_ok=True)
    settings = settings_of(training, side)
    catalogue = Catalogue.read(settings, parts, side)
    choice, waves = Choice(settings, catalogue, side), Waves(settings, prompts, chat, catalogue, examples, on_progress)
    index_E = _taken(choice, waves)
    files = [example_file(examples, number) for number in range(waves.num_files)]
    if choice.num_examples == 0:
        for file in files:
            file.unlink()
        raise nothing_left(training, choice.dropped, side)
    on_progress(sum(pq.read_metadata(part).num_rows for part in parts) - waves.num_records)
    details = {**choice.report(), "seconds": time.monotonic() - started}
    manifest = read_manifest(selected)
    assert manifest is not None, "selected_parts has read it above"
    write_manifest(examples, manifest["fingerprint"], [*files, write_index(examples, index_E)], details)
    return details


def _taken(choice: Choice, waves: Waves) -> np.ndarray:
    """INDEX_TYPE of the examples that are taken, in the order of their record ids."""
    taken = {name: array("i") for name in ("index", *INDEX_COLUMNS)}
    for item in choice.taken(waves.made):
        for name, values in taken.items():
            values.append(getattr(item, name))
    place_R = np.full(len(choice.catalogue), -1, np.int32)  # of each record among those taken
    place_R[np.frombuffer(taken.pop("index"), np.int32)] = np.arange(choice.num_examples)
    order_E = place_R[pc.sort_indices(choice.catalogue.record_ids).to_numpy()]
    order_E = order_E[order_E >= 0]
    index_E = np.empty(len(order_E), INDEX_TYPE)
    for name in INDEX_COLUMNS:
        index_E[name] = np.frombuffer(taken[name], np.int32)[order_E]
    index_E["num_targets"] = np.minimum(index_E["num_targets"], index_E["num_tokens"] - 1)  # nothing could predict the first token
    return index_E


def nothing_left(training: TrainingConfig, dropped: Mapping[str, int], side: Side = "training") -> ValueError:
    """What to raise when no record has become an example."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "no record was kept by the selection"
    if side == "validation":
        return ValueError(f"training.validation leaves nothing to validate on for arm {training.arm_label}: {reasons}; raise its fraction")
    return ValueError(
        f"nothing to train on for arm {training.arm_label}: {reasons}; loosen selection, "
        "raise training.context_length or the budget, or generate what is missing (no_direct: generation.direct_answers=true)"
    )
