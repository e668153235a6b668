"""Several sources are one set of problems in the given proportions, evenly spread, with each question and each id once."""

import json
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config import ProblemsConfig
from cgd_ray.problems.mixing import load_training_problems


def write(path: Path, count: int, kind: str | None = None, **columns: Any) -> dict[str, Any]:
    rows = [{"question": f"{kind or path.stem} {number}", "id": number, **columns} for number in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(path)}


def mixed(first: dict[str, Any], *others: dict[str, Any], notes: list[str] | None = None) -> list[str]:
    config = ProblemsConfig.model_validate({**first, "mix": others})
    questions: list[str] = load_training_problems(config, [] if notes is None else notes)["question"].to_pylist()
    return questions


def kinds(questions: list[str]) -> str:
    return "".join(question[0] for question in questions)


def test_one_source_alone_stays_as_it_is(tmp_path: Path) -> None:
    assert mixed(write(tmp_path / "a.jsonl", 3)) == ["a 0", "a 1", "a 2"]


def test_weights_are_problems_for_each_of_the_first_source_and_all_are_spread_evenly(tmp_path: Path) -> None:
    first, half, few = (write(tmp_path / f"{name}.jsonl", 20) for name in "abc")
    questions = mixed({**first, "limit": 12}, {**half, "weight": 0.5}, {**few, "limit": 3})
    assert [kinds(questions).count(kind) for kind in "abc"] == [12, 6, 3]
    assert {kinds(questions)[start : start + 7].count("a") for start in (0, 7, 14)} == {4}
    assert [question for question in questions if question.startswith("b")] == [f"b {number}" for number in range(6)]


def test_a_source_with_fewer_problems_than_its_weight_asks_for_is_refused_with_what_would_do(tmp_path: Path) -> None:
    first, other = write(tmp_path / "a.jsonl", 10), write(tmp_path / "b.jsonl", 4)
    expected = (
        r"^problems.mix.0.weight 0.5 of the 10 problems of problems.path asks for 5, and .*b.jsonl has 4; lower it to 0.4, or .*limit to 8$"
    )
    with pytest.raises(ValueError, match=expected):
        mixed(first, {**other, "weight": 0.5})
    assert len(mixed(first, {**other, "weight": 0.4})) == len(mixed({**first, "limit": 8}, {**other, "weight": 0.5})) + 2 == 14


def test_a_question_of_an_earlier_source_is_taken_once_and_told(tmp_path: Path) -> None:
    first, same = write(tmp_path / "a.jsonl", 4), write(tmp_path / "b.jsonl", 6, kind="a")
    notes: list[str] = []
    assert sorted(mixed(first, same, notes=notes)) == [f"a {number}" for number in range(6)]
    assert notes == ["problems.mix.0: 4 of 6 problems are in an earlier source too and are taken from there"]


def test_an_id_of_an_earlier_source_for_another_question_is_refused(tmp_path: Path) -> None:
    first, other = ({**write(tmp_path / f"{name}.jsonl", 2), "fields": {"problem_id": "id"}} for name in "ab")
    with pytest.raises(
        ValueError, match=r"^problems.mix.0.path .*b.jsonl has the id '0' for another question .*; set fields.problem_id to"
    ):
        mixed(first, other)


def test_what_is_wrong_with_a_further_source_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^problems.mix.1.path /nowhere.jsonl does not exist"):
        mixed(write(tmp_path / "a.jsonl", 2), write(tmp_path / "b.jsonl", 2), {"path": "/nowhere.jsonl"})
