"""Shuffled critiques: every critique goes to another problem's record, once, of the same verdict and about the same length."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import manifest_parts
from cgd_ray.training.examples.choosing.critiques import derangement
from cgd_ray.training.examples.preparation import Preparation
from tests.builders import tiny_records, tiny_tokenizer, write_selected

CHAT = Chat(tiny_tokenizer())

Row = tuple[str, str, int]
"""Problem, verdict, length."""
ROWS = st.lists(
    st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(["right", "wrong", "missing"]), st.integers(1, 5000)), min_size=1, max_size=60
)


def donors_of(rows: list[Row], seed: int = 0, ids: list[int] | None = None) -> np.ndarray:
    problems, verdicts, lengths = zip(*rows, strict=True)
    return derangement(
        record_ids=np.array([f"record-{index:03}" for index in ids or range(len(rows))]),
        problem_ids=np.array(problems, dtype=object),
        verdicts=np.array(verdicts, dtype=object),
        lengths=np.array(lengths),
        seed=seed,
    )


def is_possible(rows: list[Row]) -> bool:
    """No problem has more than half of the rows, so all of them can swap with another problem's."""
    problems = [problem for problem, _, _ in rows]
    return 2 * max(map(problems.count, problems)) <= len(rows)


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 100))
def test_no_record_gets_its_own_problems_critique_and_every_critique_is_used_once(rows: list[Row], seed: int) -> None:
    if not is_possible(rows):
        with pytest.raises(ValueError, match=r"critiques is shuffled, but .* belong to one problem; train on more problems"):
            donors_of(rows, seed)
        return
    donors = donors_of(rows, seed)
    assert sorted(donors) == list(range(len(rows)))
    assert all(rows[donor][0] != row[0] for row, donor in zip(rows, donors, strict=True))


@settings(max_examples=100, deadline=None)
@given(rows=ROWS.filter(is_possible), seed=st.integers(0, 100), data=st.data())
def test_it_depends_on_the_ids_and_the_seed_and_not_on_the_order_of_the_rows(rows: list[Row], seed: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    before = donors_of(rows, seed)
    after = donors_of([rows[index] for index in order], seed, ids=list(order))
    assert {order[row]: order[donor] for row, donor in enumerate(after)} == dict(enumerate(before))


@settings(max_examples=100, deadline=None)
@given(verdicts=st.lists(st.sampled_from(["right", "wrong"]), min_size=4, max_size=80), data=st.data())
def test_verdict_and_length_stay_where_each_bucket_has_two_problems(verdicts: list[str], data: st.DataObject) -> None:
    """Each row twice, with another problem, so that no bucket has to be merged."""
    lengths = data.draw(st.lists(st.integers(1, 5000), min_size=len(verdicts), max_size=len(verdicts)))
    rows = [(f"{index}-{twin}", *pair) for index, pair in enumerate(zip(verdicts, lengths, strict=True)) for twin in (0, 1)]
    for row, donor in enumerate(donors_of(rows)):
        (_, verdict, length), (_, other_verdict, other_length) = rows[row], rows[donor]
        assert verdict == other_verdict
        assert 1 / np.sqrt(2) < length / other_length < np.sqrt(2)


def test_a_lone_length_joins_the_nearest_of_its_own_verdict() -> None:
    rows = [*[(f"short-{i}", "wrong", 10) for i in range(4)], *[(f"long-{i}", "wrong", 1000) for i in range(4)], ("lone", "wrong", 4000)]
    rows += [(f"right-{i}", "right", 4000) for i in range(4)]
    donors = donors_of(rows)
    assert rows[donors[8]][0].startswith("long")
    assert all(rows[donor][0].startswith("short") for donor in donors[:4])


def test_a_lone_verdict_joins_another_one_of_about_its_length() -> None:
    rows = [*[(f"right-{i}", "right", 10) for i in range(4)], *[(f"long-{i}", "right", 1000) for i in range(4)], ("lone", "wrong", 1000)]
    assert rows[donors_of(rows)[8]][0].startswith("long")


def test_other_seeds_shuffle_otherwise() -> None:
    rows = [(f"problem-{i}", "wrong", 100) for i in range(50)]
    assert len({tuple(donors_of(rows, seed)) for seed in range(5)}) == 5
    assert (donors_of(rows, 1) == donors_of(rows, 1)).all()


def test_cgd_is_shown_the_other_critique_and_keeps_all_else(tmp_path: Path) -> None:
    rows = tiny_records(30)
    for index, row in enumerate(rows):
        row["critique"] = f"critique number {index:02}"
    shown = examples_of(tmp_path / "shuffled", rows, critiques="shuffled")
    numbers = [messages[-1].content.split("critique number ")[1][:2] for messages, _ in shown]
    assert sorted(numbers) == [f"{index:02}" for index in range(30)]
    assert all(number != f"{index:02}" for index, number in enumerate(numbers))
    specific = examples_of(tmp_path / "specific", rows)
    assert [(messages[:-1], target) for messages, target in shown] == [(messages[:-1], target) for messages, target in specific]


def test_one_problem_alone_cannot_be_shuffled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 of the 3 records that could swap critiques belong to one problem"):
        examples_of(tmp_path, tiny_records(3, problem_id="one"), critiques="shuffled")


def examples_of(tmp_path: Path, rows: list[dict[str, Any]], **training: Any) -> list[tuple[list[Any], str]]:
    preparation = Preparation(TrainingConfig(**training), CHAT, Prompts(), manifest_parts(write_selected(tmp_path, rows)))
    return [(list(item.conversation.messages), item.conversation.target) for item in preparation]
