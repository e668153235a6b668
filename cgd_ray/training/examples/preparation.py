"""Selected records -> the examples that a training takes, one after the other, with a count of everything that is not taken and why.

The training, the exporters and `cgd inspect` all go through here, so they see the same examples. Held-out problems leave before all else:
neither side's critiques, mix or budget know of the other. Records are looked at in their own order when all are wanted, in the seeded
order when a budget or a mix of verdicts takes some; tokenisation stops when the budget is full.
How to use: `preparation = Preparation(training, chat, prompts, selected_parts(run.selected))` or `prepare(config)`, iterate over it, then
`preparation.report()`. Without budget, mix and shuffling each record is looked at alone, so that files can be prepared one by one and their
reports added up.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.config import Config, TrainingConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.records import check_version
from cgd_ray.data.rundir import RunDir, manifest_parts, read_manifest
from cgd_ray.training.examples.arms import REQUIRED_COLUMNS, ArmExample, check_columns
from cgd_ray.training.examples.critiques import CRITIQUES
from cgd_ray.training.examples.fitting import fit
from cgd_ray.training.examples.held_out import is_held_out
from cgd_ray.training.examples.mixture import arms_of, assign_arms, interleave, seeded_order

ROWS_PER_BATCH = 1024  # turned into Python objects at once

Side = Literal["training", "validation"]
LEFT_TO_THE_OTHER: dict[Side, str] = {"training": "held_out", "validation": "trained_on"}
"""What a record of the other side counts as."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One example to train on."""

    record_id: str
    arm: str
    verdict: str
    """right, wrong or missing."""
    conversation: ArmExample
    example: Example
    attempt_tokens_cut: int
    """Tokens taken from the end of the attempt so that the rest fits; 0 for a whole example."""

    @property
    def num_targets(self) -> int:
        """Tokens that carry loss."""
        return len(self.example.input_ids) - self.example.prompt_length


class Preparation:
    """Iterates once over the examples of one side in files of selected records; the counts are complete when the iteration is.

    Budgets are the training's: all that is held out is validated on. Raises ValueError when the records lack a column of an arm, or when
    their critiques cannot be shuffled.
    """

    def __init__(
        self,
        training: TrainingConfig,
        chat: Chat,
        prompts: Prompts,
        selected: Sequence[Path],
        side: Side = "training",
        is_left_out: Callable[[str], bool] | None = None,
    ) -> None:
        """`is_left_out` tells of which records, by their ids, no example is wanted."""
        if side == "validation":
            training = training.model_copy(update={"max_examples": None, "max_target_tokens": None})
        self.chat = chat
        self._training, self._prompts = training, prompts
        kept = _read_records(training, selected)
        if is_left_out is not None:
            kept = kept.filter(pa.array([not is_left_out(name) for name in kept["record_id"].to_pylist()], pa.bool_()))
        records = _side_of(kept, training, side)
        if training.critiques in CRITIQUES:
            records = _with_other_critiques(records, training, prompts, side)
        self._records = records
        self.num_records = kept.num_rows
        self.num_seen = self.num_examples = self.target_tokens = self.num_shortened = 0
        self.dropped: Counter[str] = Counter()
        if num_left := kept.num_rows - records.num_rows:
            self.dropped[LEFT_TO_THE_OTHER[side]] = num_left
        self._arms: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Prepared]:
        training, left_over = self._training, "outside_verdict_mix"
        for item in self._mixed():
            if training.max_target_tokens is not None and self.target_tokens + item.num_targets > training.max_target_tokens:
                left_over = "over_max_target_tokens"
                break
            self._count(item)
            yield item
            if self.num_examples == training.max_examples:
                left_over = "over_max_examples"
                break
        if num_left_over := self.num_records - self.num_examples - self.dropped.total():
            self.dropped[left_over] += num_left_over

    def report(self) -> dict[str, Any]:
        """The counts, as the manifest of the examples holds them."""
        return {
            "arm": self._training.model_dump(mode="json")["arm"],
            "critiques": self._training.critiques,
            "examples": self.num_examples,
            "target_tokens": self.target_tokens,
            "arms": dict(self._arms),
            "verdicts": dict(self._verdicts),
            "attempt_shortened": self.num_shortened,
            "dropped": dict(self.dropped),
        }

    def _mixed(self) -> Iterator[Prepared]:
        """Examples in the order in which they are wanted, with the verdicts that are wanted."""
        training, mix = self._training, self._training.verdict_mix
        if mix is None and training.max_examples is None and training.max_target_tokens is None:
            return self._made(np.arange(self._records.num_rows))
        order = seeded_order(self._records["record_id"].to_pylist(), training.seed)
        if mix is None:
            return self._made(order)
        verdicts = np.array(self._records["verdict"].to_pylist())[order]
        shares: dict[str, float] = {name: share for name, share in mix.items() if share > 0}
        if outside := int(np.isin(verdicts, list(shares), invert=True).sum()):
            self.dropped["outside_verdict_mix"] = outside
        return interleave({name: self._made(order[verdicts == name]) for name in shares}, shares)

    def _made(self, indices: np.ndarray) -> Iterator[Prepared]:
        """The examples of these records, without those that cannot be one."""
        for start in range(0, len(indices), ROWS_PER_BATCH):
            for row in self._records.take(indices[start : start + ROWS_PER_BATCH]).to_pylist():
                self.num_seen += 1
                if (item := self._prepared(row)) is not None:
                    yield item

    def _prepared(self, row: Mapping[str, Any]) -> Prepared | None:
        if (reason := _unusable(row)) is not None:
            self.dropped[reason] += 1
            return None
        fitted = fit(row, row["arm"], self._prompts, self.chat, self._training.context_length)
        if fitted is None:
            self.dropped["over_context_length"] += 1
            return None
        return Prepared(
            record_id=row["record_id"],
            arm=row["arm"],
            verdict=row["verdict"],
            conversation=fitted.conversation,
            example=fitted.example,
            attempt_tokens_cut=fitted.attempt_tokens_cut,
        )

    def _count(self, item: Prepared) -> None:
        self.num_examples += 1
        self.target_tokens += item.num_targets
        self.num_shortened += item.attempt_tokens_cut > 0
        self._arms[item.arm] += 1
        self._verdicts[item.verdict] += 1


def prepare(config: Config) -> Preparation:
    """The preparation of a run directory. Raises ValueError when it holds no selected records."""
    run, student = RunDir(config.run_dir), config.student
    if read_manifest(run.selected) is None:
        raise ValueError(f"run_dir {run.root} holds no selected records; run `cgd generate` with the same config first")
    chat = Chat.of(student)
    return Preparation(config.training, chat, load_prompts(config.prompts), selected_parts(run.selected))


def selected_parts(directory: Path) -> list[Path]:
    """The files of selected records. Raises ValueError when the selection is unfinished or its records are of another version."""
    parts, manifest = manifest_parts(directory), read_manifest(directory)
    assert manifest is not None, "manifest_parts has read it as well"
    check_version(manifest, directory)
    return parts


def added_up(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The report on all records from those on parts of them, made with the same settings."""
    total: dict[str, Any] = {}
    for report in reports:
        for name, value in report.items():
            if isinstance(value, dict) and name != "arm":  # shares of arms are a setting, and so are the texts
                value = dict(Counter(total.get(name, {})) + Counter(value))
            elif isinstance(value, int):
                value += total.get(name, 0)
            total[name] = value
    return total


def _read_records(training: TrainingConfig, parts: Sequence[Path]) -> pa.Table:
    """The records that selection has kept, with the columns that the arms read and each record's arm; a missing verdict is a text."""
    present, arms = pq.read_schema(parts[0]).names, arms_of(training)
    for arm in arms:
        check_columns(arm, present)
    needed = dict.fromkeys(column for arm in arms for column in REQUIRED_COLUMNS[arm])
    finish_reasons = [name for name in (f"{column}_finish_reason" for column in needed) if name in present]
    columns = ["record_id", "problem_id", "verdict", "drop_reason", *needed, *finish_reasons]
    table = pa.concat_tables(pq.read_table(part, columns=columns) for part in parts)
    table = table.filter(pc.is_null(table["drop_reason"])).drop_columns("drop_reason")
    table = table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names])).combine_chunks()  # may exceed 2 GiB a column
    verdicts = pc.fill_null(table["verdict"], "missing")
    table = table.set_column(table.column_names.index("verdict"), "verdict", verdicts)
    return table.append_column("arm", pa.array(assign_arms(training, table["record_id"].to_pylist()), pa.large_string()))


def _side_of(records: pa.Table, training: TrainingConfig, side: Side) -> pa.Table:
    """The records whose problems are on this side of the split."""
    fraction = 0.0 if training.validation is None else training.validation.fraction
    wanted = [is_held_out(name, fraction) == (side == "validation") for name in records["problem_id"].to_pylist()]
    return records.filter(pa.array(wanted, pa.bool_()))


def _with_other_critiques(records: pa.Table, training: TrainingConfig, prompts: Prompts, side: Side) -> pa.Table:
    """Other critiques for the records of the arm cgd; other arms keep their own."""
    try:
        others = CRITIQUES[training.critiques](records, prompts, training.seed)
    except ValueError as error:
        if side == "training":
            raise
        raise ValueError(f"among the held-out records: {error}, or raise training.validation.fraction") from None
    critiques = pc.if_else(pc.equal(records["arm"], "cgd"), others, records["critique"])
    return records.set_column(records.column_names.index("critique"), "critique", critiques)


def _unusable(row: Mapping[str, Any]) -> str | None:
    """Why a record cannot become an example of its arm, or None."""
    for name in REQUIRED_COLUMNS[row["arm"]]:
        if not row[name]:
            return f"no_{name}"
        if row.get(f"{name}_finish_reason") == "length":
            return f"{name}_truncated"
    return None
