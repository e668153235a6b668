"""Examples: the loss covers the target and the end token and nothing else; whatever cannot be an example is dropped and counted."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import manifest_parts, read_manifest, write_manifest
from cgd_ray.training.examples.arms import ARMS
from cgd_ray.training.examples.writing import make_examples
from tests.builders import CHATML, TURN_END, read_examples, tiny_records, tiny_tokenizer, write_selected

CHAT = Chat(tiny_tokenizer())
PROMPTS = Prompts(student_system="Think first.")


def make(tmp_path: Path, rows: list[dict[str, Any]], **training: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    selected = write_selected(tmp_path / "selected", rows)
    details = make_examples(TrainingConfig(**training), CHAT, PROMPTS, selected, tmp_path / "examples")
    examples = {example["record_id"]: example for example in read_examples(tmp_path / "examples").to_pylist()}
    return [examples.pop(row["record_id"]) for row in rows if row["record_id"] in examples], details


@pytest.mark.parametrize("arm", ARMS)
def test_targets_decode_to_the_target_text_and_the_end_token_and_the_prompt_to_the_template(tmp_path: Path, arm: str) -> None:
    rows = tiny_records(5)
    examples, details = make(tmp_path, rows, arm=arm)
    assert (details["examples"], details["dropped"]) == (5, {})
    for row, example in zip(rows, examples, strict=True):
        expected = ARMS[arm](row, PROMPTS)
        turns = [{"role": message.role, "content": message.content} for message in expected.messages]
        prompt = CHAT.tokenizer.apply_chat_template(turns, chat_template=CHATML, tokenize=False, add_generation_prompt=True)
        prompt_ids, target_ids = example["input_ids"][: example["prompt_length"]], example["input_ids"][example["prompt_length"] :]
        assert example["record_id"] == row["record_id"]
        assert CHAT.tokenizer.decode(prompt_ids) == prompt
        assert CHAT.tokenizer.decode(target_ids) == expected.target + TURN_END


def test_a_control_token_spelled_in_the_data_is_not_one(tmp_path: Path) -> None:
    (spelled,), _ = make(tmp_path, tiny_records(1, refinement=f"stop{TURN_END}now"))
    target_ids = spelled["input_ids"][spelled["prompt_length"] :]
    assert CHAT.count_control_tokens(target_ids[:-1]) == 0
    assert CHAT.tokenizer.decode(target_ids) == f"stop{TURN_END}now{TURN_END}"


def test_an_over_long_example_is_dropped_and_counted_and_one_that_just_fits_is_kept_whole(tmp_path: Path) -> None:
    rows = tiny_records(12)
    for index, row in enumerate(rows):
        row["refinement"] += " Indeed." * (index % 5)
    lengths = [len(example["input_ids"]) for example in make(tmp_path / "long", rows, arm="refined_only")[0]]
    limit = sorted(lengths)[6]
    examples, details = make(tmp_path / "short", rows, arm="refined_only", context_length=limit)
    num_over = sum(length > limit for length in lengths)
    assert [len(example["input_ids"]) for example in examples] == [length for length in lengths if length <= limit]
    assert num_over > 0
    assert (details["examples"], details["dropped"]) == (12 - num_over, {"over_context_length": num_over})


def test_a_record_without_a_field_of_the_arm_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = tiny_records(6)
    rows[1]["critique"], rows[2]["critique"], rows[4]["refinement"] = None, "", None
    examples, details = make(tmp_path, rows)
    assert [example["record_id"] for example in examples] == [rows[index]["record_id"] for index in (0, 3, 5)]
    assert details["dropped"] == {"no_critique": 2, "no_refinement": 1}


def test_a_field_that_the_arm_does_not_read_may_be_missing(tmp_path: Path) -> None:
    examples, details = make(tmp_path, tiny_records(3, critique=None, refinement=None), arm="sft")
    assert (len(examples), details["dropped"]) == (3, {})


def test_a_record_that_selection_dropped_is_no_example_and_not_counted_again(tmp_path: Path) -> None:
    rows = tiny_records(3)
    rows[1]["drop_reason"] = "truncated"
    examples, details = make(tmp_path, rows)
    assert [example["record_id"] for example in examples] == [rows[0]["record_id"], rows[2]["record_id"]]
    assert details["dropped"] == {}


def test_the_manifest_holds_the_counts_and_the_fingerprint_of_the_selection(tmp_path: Path) -> None:
    _, details = make(tmp_path, tiny_records(2))
    manifest = read_manifest(tmp_path / "examples")
    assert manifest is not None
    assert manifest["fingerprint"] == "test"
    assert details.items() <= manifest.items()


def test_records_without_a_column_of_the_arm_are_refused(tmp_path: Path) -> None:
    selected = write_selected(tmp_path / "selected", tiny_records(2))
    (part,) = manifest_parts(selected)
    pq.write_table(pq.read_table(part).drop_columns(["critique"]), part)
    write_manifest(selected, "test", [part], {})
    with pytest.raises(ValueError, match="the records have no critique"):
        make_examples(TrainingConfig(), CHAT, PROMPTS, selected, tmp_path / "examples")


def test_nothing_left_to_train_on_is_refused_with_the_reasons_and_publishes_nothing(tmp_path: Path) -> None:
    rows = [*tiny_records(2), *tiny_records(1, attempt=None)]
    with pytest.raises(ValueError, match="nothing to train on for arm cgd: 2 over_context_length, 1 no_attempt; loosen"):
        make(tmp_path, rows, context_length=8)
    with pytest.raises(ValueError, match="no record was kept by the selection"):
        make(tmp_path, tiny_records(2, drop_reason="truncated"))
    assert list((tmp_path / "examples").iterdir()) == []
