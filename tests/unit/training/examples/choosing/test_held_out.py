"""The split: by problem, deterministic, nested, and each record on one side only."""

from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest

from cgd_ray.config import TrainingConfig, ValidationConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.data.rundir import manifest_parts
from cgd_ray.problems.work_list import make_work_list
from cgd_ray.training.examples.choosing.catalogue import Side
from cgd_ray.training.examples.choosing.held_out import is_held_out, problems_to_answer
from cgd_ray.training.examples.preparation import Preparation
from cgd_ray.training.examples.writing import make_examples
from tests.builders import read_examples, tiny_records, tiny_tokenizer, write_selected

IDS = [f"problem-{index}" for index in range(4000)]


def make(root: Path, side: Side, **settings: Any) -> tuple[set[str], dict[str, Any]]:
    training = TrainingConfig(arm="refined_only", **settings)
    report = make_examples(training, Chat(tiny_tokenizer()), Prompts(), root / "selected", root / side, side=side)
    return set(read_examples(root / side)["record_id"].to_pylist()), report


def test_about_the_share_that_was_asked_for_is_held_out_and_a_larger_share_holds_a_smaller_one() -> None:
    tenth, fifth = ({name for name in IDS if is_held_out(name, fraction)} for fraction in (0.1, 0.2))
    assert len(tenth) == pytest.approx(400, abs=60)
    assert len(fifth) == pytest.approx(800, abs=80)
    assert tenth < fifth


def test_every_record_is_on_one_side_with_all_samples_of_its_problem(tmp_path: Path) -> None:
    rows = tiny_records(60)
    again = [{**row, "record_id": row["record_id"] + "-2", "sample_index": 1} for row in rows]
    write_selected(tmp_path / "selected", rows + again)
    validation: dict[str, Any] = {"validation": {"fraction": 0.2, "every_steps": 1}}
    trained_on, report = make(tmp_path, "training", **validation)
    held_out, held_out_report = make(tmp_path, "validation", **validation)
    assert trained_on | held_out == {row["record_id"] for row in rows + again}
    assert not trained_on & held_out
    assert held_out == {row["record_id"] for row in rows + again if is_held_out(row["problem_id"], 0.2)}
    assert {name.removesuffix("-2") for name in held_out} <= held_out
    assert report["dropped"] == {"held_out": len(held_out)}
    assert held_out_report["examples"] == len(held_out)


def test_without_validation_everything_is_trained_on(tmp_path: Path) -> None:
    write_selected(tmp_path / "selected", tiny_records(20))
    trained_on, report = make(tmp_path, "training")
    assert len(trained_on) == 20
    assert report["dropped"] == {}


def test_a_share_that_holds_out_nothing_is_refused(tmp_path: Path) -> None:
    write_selected(tmp_path / "selected", tiny_records(3))
    with pytest.raises(
        ValueError, match=r"validation leaves nothing to validate on for arm refined_only: 3 trained_on; raise its fraction"
    ):
        make(tmp_path, "validation", validation={"fraction": 0.001, "every_steps": 1})


def test_neither_sides_critiques_mix_or_budget_know_of_the_other(tmp_path: Path) -> None:
    rows = [
        {**row, "verdict": "right" if index % 2 else "wrong", "critique": f"{row['critique']} <{row['problem_id']}>"}
        for index, row in enumerate(tiny_records(80))
    ]
    write_selected(tmp_path / "selected", rows)
    chat = Chat(tiny_tokenizer())
    settings: dict[str, Any] = {
        "critiques": "shuffled",
        "verdict_mix": {"right": 0.5, "wrong": 0.5},
        "max_examples": 6,
        "validation": {"fraction": 0.3, "every_steps": 1},
    }
    critiques = {row["critique"]: row["problem_id"] for row in rows}
    seen: dict[Side, int] = {}
    for side in get_args(Side):
        preparation = Preparation(TrainingConfig(**settings), chat, Prompts(), manifest_parts(tmp_path / "selected"), side)
        items = list(preparation)
        seen[side] = len(items)
        shown = [message.content for item in items for message in item.conversation.messages]
        donors = {name for critique, name in critiques.items() if any(critique in text for text in shown)}
        named = {row["problem_id"] for row in rows if row["record_id"] in {item.record_id for item in items}}
        assert {is_held_out(name, 0.3) for name in donors | named} == {side == "validation"}
        report = preparation.report()
        assert report["examples"] + sum(report["dropped"].values()) == len(rows)
        assert abs(report["verdicts"]["right"] - report["verdicts"]["wrong"]) <= 1
    assert seen["training"] == 6 < seen["validation"]


def test_held_out_records_that_cannot_swap_critiques_are_named(tmp_path: Path) -> None:
    rows = tiny_records(40)
    write_selected(
        tmp_path / "selected",
        [row for row in rows if not is_held_out(row["problem_id"], 0.3)]
        + [next(row for row in rows if is_held_out(row["problem_id"], 0.3))],
    )
    training = TrainingConfig(critiques="shuffled", validation={"fraction": 0.3, "every_steps": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"among the held-out records: .*1 of the 1 records.*or raise training.validation.fraction"):
        Preparation(training, Chat(tiny_tokenizer()), Prompts(), manifest_parts(tmp_path / "selected"), "validation")


def answered(rows: list[dict[str, Any]], most: int) -> list[str]:
    """Ids of the problems of two samples each that a training with a fifth held out answers."""
    validation = ValidationConfig.model_validate({"fraction": 0.2, "every_steps": 1, "answers": {"every_steps": 1, "max_problems": most}})
    names: list[str] = problems_to_answer(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), 2), validation)[
        "problem_id"
    ].to_pylist()
    return names


def test_checkpoints_answer_held_out_problems_that_can_be_graded_once_each() -> None:
    rows = [{"problem_id": name, "question": "Why?", "reference_answer": "4"} for name in IDS[:300]]
    rows[0]["reference_answer"] = rows[1]["reference_answer"] = None  # type: ignore[assignment]
    wanted = [row["problem_id"] for row in rows if is_held_out(row["problem_id"], 0.2) and row["reference_answer"]]
    assert answered(rows, most=1000) == wanted
    fewer = answered(rows, most=20)
    assert len(fewer) == 20
    assert set(answered(rows, most=7)) < set(fewer) < set(wanted)
    assert fewer == [name for name in wanted if name in fewer]


def test_held_out_problems_of_which_none_can_be_graded_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of 100 problems training.validation.fraction 0.2 holds out \d+, and none .* raise the fraction"):
        answered([{"problem_id": name, "question": "Why?"} for name in IDS[:100]], most=5)
