"""The same refinements in the contexts that the method's claims compare: x; x, y'; x, y', c; x, y' and another problem's critique.

Each context is an arm of the training, and the examples are made by the function that makes the training's, so the token ids are those
that are trained on. Records are compared with themselves: one that does not fit in one context, or whose target is written with other
tokens there, is in none. Critiques are exchanged within the sample, so the foreign ones are the same texts as the own ones, each used
once: what differs is whom they are about.
Problems that are held out of the training (training.validation) come first, and then only they: what a student knows of the very answers
that it was trained on is memory as well.
How to use: `sample = sample_contexts(training, prompts, chat, selected_parts(run.selected), max_records=256, seed=0)`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.fetching import fetch
from cgd_ray.data.prompts import Message, Prompts
from cgd_ray.training.examples.choosing.catalogue import Catalogue, Side
from cgd_ray.training.examples.choosing.critiques import shuffled_donors
from cgd_ray.training.examples.choosing.mixture import seeded_order
from cgd_ray.training.examples.preparation import Prepared, prepared
from cgd_ray.training.examples.texts import SHOWN, Texts

PROBLEM, ATTEMPT, CRITIQUE, FOREIGN = "problem", "attempt", "critique", "foreign_critique"
ARM_OF: dict[str, str] = {PROBLEM: "refined_only", ATTEMPT: "cgd_without_critique", CRITIQUE: "cgd", FOREIGN: "cgd"}
"""Each context and the arm that shows it."""
ROWS_AT_ONCE = 256
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Revision:
    """What a student is asked that is shown the critique, and what a right answer is."""

    question: str
    reference_answer: str | None
    messages: Sequence[Message]
    """The conversation of the context CRITIQUE, whose next turn is the refinement."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """R records and what the student sees of them in each context."""

    side: Side
    """Whether they are held out of the training ("validation") or not."""
    num_records: int
    """That there are on this side, of which these are a sample."""
    record_ids: Sequence[str]
    problem_ids: Sequence[str]
    verdicts: Sequence[str]
    """right, wrong or missing."""
    examples: Mapping[str, Sequence[Example]]
    """By context, R each. FOREIGN is not there where critiques cannot be exchanged."""
    revisions: Sequence[Revision]
    """R of them."""
    left_out: Mapping[str, int]
    """Why records that were drawn are not among these, and how many."""
    num_shortened: int
    """Records whose attempt lost its end in some context, so that the rest fits."""

    @property
    def num_targets_R(self) -> np.ndarray:
        """Tokens of each record's refinement, which are the same in all contexts."""
        return np.array([len(targets_of(example)) for example in self.examples[PROBLEM]])

    def digest(self) -> str:
        """Names the token ids of all examples."""
        digest = hashlib.sha256()
        for context, examples in self.examples.items():
            digest.update(context.encode())
            for example in examples:
                digest.update(np.array([example.prompt_length, *example.input_ids], np.int64).tobytes())
        return digest.hexdigest()


def targets_of(example: Example) -> list[int]:
    """The tokens that carry loss; the first of all has nothing before it that could predict it."""
    return example.input_ids[max(example.prompt_length, 1) :]


def sample_contexts(
    training: TrainingConfig, prompts: Prompts, chat: Chat, selected: Sequence[Path], *, max_records: int, seed: int
) -> Sample:
    """Draw records that selection has kept and make their examples. Raises ValueError when no record has all that it takes.

    The same seed draws the same records for every arm, and a smaller sample is a part of a larger one, but for whose critique is whose.
    """
    plain = training.model_copy(update={"arm": "cgd", "critiques": "specific", "usable_by": ()})
    side, catalogue = _candidates(plain, selected)
    left_out: Counter[str] = Counter()
    drawn = list[Row]()
    for row in _rows(plain, prompts, selected, catalogue, seed):
        item = prepared(row, plain, prompts, chat)
        if isinstance(item, str):
            left_out[item] += 1
            continue
        drawn.append(row)
        if len(drawn) == max_records:
            break
    made = _in_all_contexts(_with_foreign_critiques(drawn, seed), plain, prompts, chat, left_out)
    if not made:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no record was kept by the selection"
        raise ValueError(f"there is no record to diagnose: {reasons}; generate more, or raise training.context_length")
    rows, items = zip(*made, strict=True)
    return Sample(
        side=side,
        num_records=len(catalogue),
        record_ids=[row["record_id"] for row in rows],
        problem_ids=[row["problem_id"] for row in rows],
        verdicts=[row["verdict"] for row in rows],
        examples={context: [item[context].example for item in items] for context in items[0]},
        revisions=[_revision(row, item[CRITIQUE]) for row, item in made],
        left_out=dict(left_out),
        num_shortened=sum(any(one.attempt_tokens_cut > 0 for one in item.values()) for item in items),
    )


def _candidates(training: TrainingConfig, selected: Sequence[Path]) -> tuple[Side, Catalogue]:
    """The held-out records where there are any, else the others."""
    if training.validation is not None and len(held_out := Catalogue.read(training, selected, "validation")):
        return "validation", held_out
    return "training", Catalogue.read(training, selected, "training")


def _rows(training: TrainingConfig, prompts: Prompts, selected: Sequence[Path], catalogue: Catalogue, seed: int) -> Iterator[Row]:
    """Records in a seeded order, with the columns of the arm cgd, their problem's id and its answer."""
    texts, order = Texts(training, prompts, selected), seeded_order(catalogue.names(), seed)
    for start in range(0, len(order), ROWS_AT_ONCE):
        places = catalogue.places(order[start : start + ROWS_AT_ONCE])
        others = fetch(selected, places["file"], places["row"], ["problem_id", "reference_answer"]).to_pylist()
        for row, beside in zip(texts.rows(places), others, strict=True):
            yield {**row, **beside}


def _with_foreign_critiques(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows, each with the critique of another problem's; without, where too many are of one problem."""
    if not rows:
        return []
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("record_id", "problem_id", "verdict")}
    table = pa.table({**columns, "critique_length": pa.array([len(row["critique"]) for row in rows], pa.int32())})
    try:
        donors = shuffled_donors(table, seed)
    except ValueError:  # more than half of those that could swap are of one problem
        return [{**row, FOREIGN: None} for row in rows]
    return [{**row, FOREIGN: rows[donor]["critique"]} for row, donor in zip(rows, donors.tolist(), strict=True)]


def _in_all_contexts(
    rows: Sequence[Row], training: TrainingConfig, prompts: Prompts, chat: Chat, left_out: Counter[str]
) -> list[tuple[Row, dict[str, Prepared]]]:
    """The rows that are an example in each context, with the same target; others are counted."""
    made = []
    for row in rows:
        items = {context: prepared(_shown(row, context), training, prompts, chat) for context in ARM_OF if _has(row, context)}
        if reason := next((item for item in items.values() if isinstance(item, str)), None):
            left_out[reason] += 1
            continue
        whole = {context: item for context, item in items.items() if isinstance(item, Prepared)}
        if any(targets_of(item.example) != targets_of(whole[PROBLEM].example) for item in whole.values()):
            left_out["other_target_tokens"] += 1
            continue
        made.append((row, whole))
    return made


def _revision(row: Row, shown: Prepared) -> Revision:
    return Revision(question=row["question"], reference_answer=row["reference_answer"], messages=shown.conversation.messages)


def _has(row: Row, context: str) -> bool:
    return context != FOREIGN or row[FOREIGN] is not None


def _shown(row: Row, context: str) -> Row:
    return {**row, "arm": ARM_OF[context], SHOWN: row[FOREIGN] if context == FOREIGN else row["critique"]}
