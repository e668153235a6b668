"""What makes the arms of a comparison equal: the same examples and optimizer steps, the same examples only, or as many tokens with loss.

Each kind of training in the comparison is prepared once as the training itself does it (training/examples), and what comes out is counted;
the least of all is every cell's budget. With training.usable_by all arms have the same records, so that equal numbers of examples are equal
records. Examples that hold an attempt and a critique fill more packed rows than others; equal steps are as many as the reference takes
with its global_batch_size, and the rows of the other arms are spread over these.
How to use: `budget = equal_budget(comparison, trainings, shared, place)`.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cgd_ray.comparison.cells import Place
from cgd_ray.config import Config, TrainingConfig, identity
from cgd_ray.config.comparison import ARMS, ComparisonConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import file_sha256, read_json, write_json
from cgd_ray.training.examples.packing import num_packed_rows
from cgd_ray.training.examples.writing import make_examples

Counts = Mapping[str, Any]
"""Of one kind of training: arm, seed and COUNTED."""
COUNTED = ("examples", "rows", "target_tokens", "dropped")
"""What is kept of a preparation; part of its name, so that counts of a version that kept other things are made again."""
PREPARED_BY = ("arm", "critiques", "usable_by", "verdict_mix", "max_examples", "max_target_tokens", "context_length", "validation")
"""Settings of the training on which its examples depend, beside the seed."""


def equal_budget(comparison: ComparisonConfig, trainings: Sequence[TrainingConfig], shared: Config, place: Place) -> dict[str, int]:
    """The settings that all trainings get, with their values; counts are kept in budget.json and not made twice.

    `shared` has its models on disk. Raises ValueError when an arm can take none of the records, or the records lack a column of it.
    """
    made, kinds = read_json(place.budget) or {}, _kinds(trainings, place)
    chat, prompts = Chat.of(shared.student), load_prompts(shared.prompts)
    for name, training in kinds.items():
        if name not in made:
            made[name] = _counts(training, chat, prompts, place)
            write_json(place.budget, made)
    budget = known_budget(comparison, trainings, place)
    assert budget is not None, "all kinds are counted"
    return budget


def known_budget(comparison: ComparisonConfig, trainings: Sequence[TrainingConfig], place: Place) -> dict[str, int] | None:
    """The same from what is counted already; None where something is not."""
    made, kinds = read_json(place.budget) or {}, _kinds(trainings, place)
    if not kinds.keys() <= made.keys():
        return None
    counts = [made[name] for name in kinds]
    if comparison.budget == "tokens":
        return {"max_target_tokens": min(found["target_tokens"] for found in counts)}
    most = {"max_examples": min(found["examples"] for found in counts)}
    if comparison.budget == "examples":
        return most
    arm, critiques = ARMS[comparison.reference]
    of_reference = [made[name] for name, training in kinds.items() if (training.arm, training.critiques) == (arm, critiques)]
    return {**most, "steps_per_epoch": _steps(counts, of_reference, most["max_examples"], trainings[0].global_batch_size)}


def _steps(counts: Sequence[Counts], of_reference: Sequence[Counts], num_examples: int, rows_per_step: int) -> int:
    """Steps an epoch of so many examples: the reference's, or as many as the arm with the fewest rows has of these."""

    def rows(found: Counts) -> int:
        return -(-int(found["rows"]) * num_examples // int(found["examples"]))

    return min(-(-max(map(rows, of_reference)) // rows_per_step), *map(rows, counts))


def _kinds(trainings: Sequence[TrainingConfig], place: Place) -> dict[str, TrainingConfig]:
    """One training of each kind, by a name that tells kinds and records apart."""
    records = file_sha256(place.shared.selected / "manifest.json")  # they are made before anything is counted
    return {_kind(training, records): training for training in trainings}


def _kind(training: TrainingConfig, records: str) -> str:
    """The same for trainings of the same examples."""
    settings = identity(training)
    named: dict[str, Any] = {name: settings.get(name) for name in PREPARED_BY}
    in_seeded_order = any(named[name] is not None for name in ("verdict_mix", "max_examples", "max_target_tokens"))
    if in_seeded_order or training.critiques == "shuffled":
        named["seed"] = training.seed
    return short_hash(json.dumps([named, records, COUNTED], sort_keys=True))


def _counts(training: TrainingConfig, chat: Chat, prompts: Prompts, place: Place) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=".examples-", dir=place.root) as directory:
        report = make_examples(training, chat, prompts, place.shared.selected, Path(directory))
        report = {**report, "rows": num_packed_rows(Path(directory), training.context_length)}
    return {"arm": training.arm_label, "seed": training.seed, **{name: report[name] for name in COUNTED}}
