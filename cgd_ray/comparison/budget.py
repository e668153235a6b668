"""What makes the arms of a comparison equal: as many examples for each, or as many tokens with loss.

Each kind of training in the comparison is prepared once as the training itself does it (training/examples), and what comes out is counted;
the least of all is every cell's budget. With training.usable_by all arms have the same records, so that equal numbers of examples are equal
records. How to use: `budget = equal_budget(comparison, trainings, shared, place)`.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cgd_ray.comparison.cells import Place
from cgd_ray.config import Config, TrainingConfig, identity
from cgd_ray.config.comparison import ComparisonConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import file_sha256, read_json, write_json
from cgd_ray.training.examples.writing import make_examples

COUNTED = {"examples": ("examples", "max_examples"), "tokens": ("target_tokens", "max_target_tokens")}
"""What is equal: the count of it in a preparation's report, and the setting of the training that holds it down."""
PREPARED_BY = ("arm", "critiques", "usable_by", "verdict_mix", "max_examples", "max_target_tokens", "context_length", "validation")
"""Settings of the training on which its examples depend, beside the seed."""


def equal_budget(comparison: ComparisonConfig, trainings: Sequence[TrainingConfig], shared: Config, place: Place) -> dict[str, int]:
    """The setting that all trainings get, with its value; counts are kept in budget.json and not made twice.

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
    counted, setting = COUNTED[comparison.budget]
    made, kinds = read_json(place.budget) or {}, _kinds(trainings, place)
    return {setting: min(made[name][counted] for name in kinds)} if kinds.keys() <= made.keys() else None


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
    return short_hash(json.dumps([named, records], sort_keys=True))


def _counts(training: TrainingConfig, chat: Chat, prompts: Prompts, place: Place) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=".examples-", dir=place.root) as directory:
        report = make_examples(training, chat, prompts, place.shared.selected, Path(directory))
    return {"arm": training.arm_label, "seed": training.seed, **{name: report[name] for name in ("examples", "target_tokens", "dropped")}}
