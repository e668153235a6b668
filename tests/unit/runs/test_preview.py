"""A preview takes rows of the run, refuses what the run refuses, and leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cgd_ray.config import Config, load_config
from cgd_ray.data.records import PROBLEM_SCHEMA, make_record_id
from cgd_ray.problems.work_list import make_work_list
from cgd_ray.process.faults import RefusedError
from cgd_ray.runs.preview import STAND_INS, expected, preview, render_prompts, spread_over
from tests.builders import tiny_tokenizer


def work_list(count: int, num_samples: int = 1, **columns: Any) -> pa.Table:
    problems = [{"problem_id": f"p{index}", "question": f"Why {index}?", "reference_answer": "1", **columns} for index in range(count)]
    return make_work_list(pa.Table.from_pylist(problems, schema=PROBLEM_SCHEMA), num_samples)


def a_config(root: Path, **settings: Any) -> Config:
    model, problems = root / "model", root / "problems.jsonl"
    tiny_tokenizer().save_pretrained(str(model))
    problems.write_text("".join(json.dumps({"question": f"Why {index}?"}) + "\n" for index in range(30)))
    role = {"model": str(model)}
    tree = {"run_dir": str(root / "run"), "problems": {"path": str(problems)}, "student": role, "teacher": role}
    return Config.model_validate({**tree, **settings})


def test_the_rows_are_spread_over_the_problems_one_sample_of_each() -> None:
    chosen = spread_over(work_list(100, num_samples=4), 5)
    assert chosen["problem_id"].to_pylist() == ["p0", "p20", "p40", "p60", "p80"]
    assert chosen["record_id"].to_pylist()[1] == make_record_id("p20", 0)


def test_few_problems_are_all_taken_and_those_without_an_answer_only_where_none_has_one() -> None:
    assert spread_over(work_list(3), 5).num_rows == 3
    mixed = pa.concat_tables([work_list(6, reference_answer=None), work_list(2)])
    assert spread_over(mixed, 5).num_rows == 2
    assert spread_over(work_list(6, reference_answer=None), 5).num_rows == 5


def test_problems_that_cannot_be_asked_are_refused() -> None:
    with pytest.raises(ValueError, match="none of them can be asked"):
        spread_over(work_list(3, error="problem: text holds a lone surrogate"), 5)


def test_what_all_rows_will_take_follows_from_these(tmp_path: Path) -> None:
    price = {"price_per_million_input_tokens": 1.0, "price_per_million_output_tokens": 2.0}
    config = a_config(tmp_path, teacher={"model": "m", "api": {"base_url": "http://127.0.0.1/v1", **price}})
    row: dict[str, Any] = {"attempt_prompt_tokens": 10, "attempt_tokens": 5, "critique_prompt_tokens": 100, "critique_tokens": 50}
    rows = [row, {**row, "refinement_prompt_tokens": 200, "refinement_tokens": None}]
    assert expected(rows, 1000, 0.25, config) == [
        "student: 20 tokens in and 10 out for 2 rows; about 10,000 in and 5,000 out for all 1,000",
        "teacher: 400 tokens in and 100 out for 2 rows; about 200,000 in and 50,000 out for all 1,000",
        "teacher's API: 0.2500 USD for these rows, about 125.00 USD for all",
    ]


def test_prompts_are_rendered_without_an_engine_and_without_a_run_directory(tmp_path: Path) -> None:
    written: list[str] = []
    render_prompts(a_config(tmp_path), 2, written.append)
    text = "".join(written)
    assert text.count("Please reason step by step") == 2
    assert "Why 0?" in text
    assert "Why 15?" in text
    assert all(text.count(stand_in) == 2 for stand_in in STAND_INS.values())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"records": "other/records"}, "records is other/records, so nothing is generated"),
        ({"problems": {"path": "nowhere.jsonl"}}, "problems.path nowhere.jsonl"),
        ({"selection": {"keep": "verified"}}, "none of the 30 problems has a reference answer"),
        ({"student": {"model": "no/such/model/here"}}, "student.model no/such/model/here does not exist"),
    ],
)
def test_what_a_run_refuses_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        preview(a_config(tmp_path, **settings), 5, lambda text: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_rows_of_a_preview_are_shown_with_what_became_of_them(tmp_path: Path) -> None:
    written: list[str] = []
    config = load_config("jobs/configs/tinymath.yaml", [f"run_dir={tmp_path / 'run'}"])
    assert preview(config, 3, written.append) == 0
    text = "".join(written)
    assert [text.count(f"{turn}: what") for turn in ("attempt", "critique", "refinement")] == [6, 6, 6]
    assert "3 of 3" in text
    assert "right, the reference answer is" in text
    assert not (tmp_path / "run").exists()
