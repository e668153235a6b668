"""Exports hold what training sees, in each format's own words, and nothing is written when there is nothing to write."""

import json
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.commands.looking import FORMATS as OFFERED
from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, Prompts
from cgd_ray.data.rundir import manifest_parts
from cgd_ray.training.examples.arms import ARMS, ArmExample
from cgd_ray.training.examples.data_export import FORMATS, export_examples
from cgd_ray.training.examples.preparation import Preparation
from tests.builders import CHATML, tiny_records, tiny_tokenizer, write_selected

CHAT = Chat(tiny_tokenizer())
EXAMPLE = ArmExample(
    messages=[Message(role=role, content=role[0]) for role in ("system", "user", "assistant", "user")],  # type: ignore[arg-type]
    target="t",
)


def preparation(tmp_path: Path, rows: list[dict[str, Any]], prompts: Prompts | None = None, **training: Any) -> Preparation:
    return Preparation(TrainingConfig(**training), CHAT, prompts or Prompts(), manifest_parts(write_selected(tmp_path, rows)))


def exported(tmp_path: Path, form: str, **training: Any) -> list[dict[str, Any]]:
    output = tmp_path / "train.jsonl"
    count = export_examples(preparation(tmp_path / "selected", tiny_records(5), **training), form, output)
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == count
    return lines


def test_the_command_line_offers_every_format() -> None:
    assert tuple(FORMATS) == OFFERED


def test_trl_gets_a_conversational_prompt_and_completion() -> None:
    assert FORMATS["trl"](EXAMPLE) == {
        "prompt": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a"},
            {"role": "user", "content": "u"},
        ],
        "completion": [{"role": "assistant", "content": "t"}],
    }


def test_alpaca_gets_the_last_question_with_what_came_before_as_history() -> None:
    assert FORMATS["alpaca"](EXAMPLE) == {"instruction": "u", "input": "", "output": "t", "system": "s", "history": [["u", "a"]]}
    alone = ArmExample(messages=[Message(role="user", content="u")], target="t")
    assert FORMATS["alpaca"](alone) == {"instruction": "u", "input": "", "output": "t", "system": "", "history": []}


def test_sharegpt_gets_one_list_of_turns() -> None:
    assert FORMATS["sharegpt"](EXAMPLE) == {
        "conversations": [
            {"from": "system", "value": "s"},
            {"from": "human", "value": "u"},
            {"from": "gpt", "value": "a"},
            {"from": "human", "value": "u"},
            {"from": "gpt", "value": "t"},
        ]
    }


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("prompts", [Prompts(), Prompts(student_system="Think first.")], ids=["plain", "system"])
def test_a_reader_of_the_trl_file_gets_the_tokens_of_the_training(tmp_path: Path, arm: str, prompts: Prompts) -> None:
    rows = tiny_records(4)
    export_examples(preparation(tmp_path / "export", rows, prompts, arm=arm), "trl", tmp_path / "train.jsonl")
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for line, item in zip(lines, preparation(tmp_path / "train", rows, prompts, arm=arm), strict=True):
        read = json.loads(line)
        prompt = CHAT.tokenizer.apply_chat_template(read["prompt"], chat_template=CHATML, add_generation_prompt=True, tokenize=False)
        whole = CHAT.tokenizer.apply_chat_template([*read["prompt"], *read["completion"]], chat_template=CHATML, tokenize=False)
        assert CHAT.tokenizer.decode(item.example.input_ids[: item.example.prompt_length]) == prompt
        assert CHAT.tokenizer.decode(item.example.input_ids) + "\n" == whole


@pytest.mark.parametrize("form", FORMATS)
def test_budgets_and_kinds_of_critiques_apply(tmp_path: Path, form: str) -> None:
    lines = exported(tmp_path, form, critiques="generic", max_examples=3)
    assert len(lines) == 3
    assert all(Prompts().generic_critique in json.dumps(line) for line in lines)


def test_text_of_any_kind_stays_on_its_line(tmp_path: Path) -> None:
    hostile = 'a "quoted"\r\nline\x00 é 数 <|im_end|>'
    output = tmp_path / "train.jsonl"
    export_examples(preparation(tmp_path / "selected", tiny_records(2, refinement=hostile)), "trl", output)
    with output.open(encoding="utf-8") as stream:
        assert [json.loads(line)["completion"][0]["content"] for line in stream] == [hostile] * 2


def test_nothing_to_export_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("old")
    with pytest.raises(ValueError, match="no example to export; `cgd inspect`"):
        export_examples(preparation(tmp_path / "selected", tiny_records(2, drop_reason="cut")), "trl", tmp_path / "train.jsonl")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["train.jsonl"]
    assert (tmp_path / "train.jsonl").read_text() == "old"
