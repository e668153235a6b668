"""Ids and columns of the one row that flows through everything: unique, the same for ever, and only ever added to."""

import pytest

from cgd_ray.data.records import PROBLEM_SCHEMA, RECORD_SCHEMA, SELECTED_SCHEMA, TURNS, WORK_SCHEMA, make_record_id, short_hash


def test_stages_only_add_columns() -> None:
    for earlier, later in ((PROBLEM_SCHEMA, WORK_SCHEMA), (WORK_SCHEMA, RECORD_SCHEMA), (RECORD_SCHEMA, SELECTED_SCHEMA)):
        assert set(earlier) < set(later)
        assert len(set(later.names)) == len(later.names)
    assert RECORD_SCHEMA.names[: len(WORK_SCHEMA.names)] == WORK_SCHEMA.names


def test_every_stage_has_the_same_columns_and_the_same_types() -> None:
    columns = [{field.name.removeprefix(turn): field.type for field in RECORD_SCHEMA if field.name.startswith(turn)} for turn in TURNS]
    assert columns[0] == columns[1] == columns[2]
    assert set(columns[0]) == {"", "_thinking", "_prompt_tokens", "_cached_tokens", "_tokens", "_finish_reason", "_seed", "_fingerprint"}


def test_record_ids_are_unique_even_where_problem_ids_look_like_one_anothers() -> None:
    problem_ids = ["a", "b", "1", "11", "a1", "", "\x00", "a\x00", "0", "\ud800"]
    ids = {make_record_id(problem_id, sample) for problem_id in problem_ids for sample in (0, 1, 11)}
    assert len(ids) == len(problem_ids) * 3


def test_record_ids_never_change() -> None:
    """They name records on disk; a new hash would make every finished record unknown."""
    assert make_record_id("problem-1", 0) == "842a08c726e38184"


@pytest.mark.parametrize("text", ["", "é 😀", "\ud800", "\x00" * 100])
def test_a_short_hash_is_16_hex_digits_of_any_text(text: str) -> None:
    assert len(short_hash(text)) == 16
    assert int(short_hash(text), 16) >= 0
    assert short_hash(text) == short_hash(text) != short_hash(text + " ")
