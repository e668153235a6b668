"""What is said of two students' answers to the same problems: nothing of noise, and a warning where something was lost."""

from typing import Any

import numpy as np
import pytest

from cgd_ray.evaluation.diagnostics.drift import compare_drift, drift_of, thinking_student
from tests.unit.evaluation.diagnostics.test_style import answer

PLAIN = "Two and three make five, so the answer is \\boxed{5}."
UNBOXED = "Two and three make five, so that is the answer: 5."
THOUGHT = "Two and three. Hmm, wait, let me check. " * 3
SURE = "Two and three are added: counting on from two by three gives three, four, five."


def told(base: list[dict[str, Any]], trained: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(found["level"], found["title"]) for found in compare_drift(drift_of(base), drift_of(trained))["advisories"]]


def mixed(count: int, other: dict[str, Any], of: int = 100) -> list[dict[str, Any]]:
    return [other] * count + [answer(PLAIN)] * (of - count)


def test_answers_that_stay_as_they_were_raise_nothing() -> None:
    assert told(mixed(4, answer(UNBOXED)), mixed(5, answer(UNBOXED))) == []


@pytest.mark.parametrize(
    ("other", "count", "title"),
    [
        (answer(UNBOXED), 15, "Answers lose their box"),
        (answer(PLAIN, attempt_finish_reason="length"), 15, "Answers reach the length limit"),
        (answer(f"As the critique says: {PLAIN}"), 6, "Answers speak of the review"),
        (answer(f"{PLAIN} " * 6), 6, "Answers run in circles"),
    ],
)
def test_a_share_that_rises_is_a_warning_and_one_that_falls_is_none(other: dict[str, Any], count: int, title: str) -> None:
    assert told(mixed(0, answer(PLAIN)), mixed(count, other)) == [("warning", title)]
    assert told(mixed(count, other), mixed(0, answer(PLAIN))) == []


def test_one_of_a_few_answers_is_noise() -> None:
    assert told(mixed(0, answer(PLAIN), of=12), mixed(1, answer(UNBOXED), of=12)) == []


def test_noise_is_seldom_taken_for_a_rise() -> None:
    random = np.random.default_rng(0)
    drift = drift_of(mixed(0, answer(PLAIN), of=1))
    alarms = 0
    for before, after in random.binomial(200, 0.2, (4000, 2)) / 200:
        pair = [{**drift, "answers": 200, "unboxed": share} for share in (before, after)]
        alarms += bool(compare_drift(*pair)["advisories"])
    assert alarms / 4000 < 0.04  # one side of two standard errors


def test_lengths_are_told_as_a_note() -> None:
    short, long = ([answer(PLAIN, attempt_tokens=tokens)] * 9 for tokens in (100, 180))
    assert told(short, long) == [("note", "Answers have become longer")]
    assert told(long, short) == [("note", "Answers have become shorter")]
    assert told(short, [answer(PLAIN, attempt_tokens=140)] * 9) == []


def test_a_thinking_student_that_stops_to_reflect_is_a_warning_that_names_the_papers() -> None:
    thinking = [answer(PLAIN, attempt_thinking=THOUGHT, attempt_tokens=120)] * 30
    surer = [answer(PLAIN, attempt_thinking=SURE, attempt_tokens=120)] * 30
    (advisory,) = compare_drift(drift_of(thinking), drift_of(surer))["advisories"]
    assert advisory["level"] == "warning"
    assert "reflection words" in advisory["detail"]
    assert "2607.05184" in advisory["detail"]


def test_a_thinking_student_that_answers_at_once_is_a_warning_with_all_that_was_lost() -> None:
    thinking = [answer(PLAIN, attempt_thinking=THOUGHT, attempt_tokens=120)] * 30
    (advisory,) = compare_drift(drift_of(thinking), drift_of([answer(PLAIN, attempt_tokens=20)] * 30))["advisories"]
    for part in ("reflection words", "120 → 20 tokens", "100% → 0% of the answers with thoughts"):
        assert part in advisory["detail"]


def test_a_thinking_student_that_thinks_on_is_not_told_of_again() -> None:
    thinking = [answer(PLAIN, attempt_thinking=THOUGHT)] * 30
    assert told(thinking, thinking) == []


def test_a_student_that_thinks_is_a_warning_before_it_is_trained() -> None:
    (advisory,) = thinking_student(0.97)
    assert advisory.level == "warning"
    assert "97% of its attempts" in advisory.detail
    assert thinking_student(0.0) == []


def test_doubt_that_an_instruction_model_has_lost_is_no_warning() -> None:
    assert told([answer(f"Wait. Hmm. {PLAIN}")] * 30, [answer(PLAIN)] * 30) == []


def test_failed_answers_are_counted_and_left_out() -> None:
    failed = answer(None, error="attempt: no answer", attempt_tokens=None)
    drift = drift_of([answer(PLAIN), failed])
    assert (drift["answers"], drift["failed"], drift["boxed"]) == (1, 1, 1.0)
    assert told([failed], [answer(PLAIN)]) == []


def test_lengths_and_reflection_are_those_of_the_answers() -> None:
    drift = drift_of([answer("wait " + "word " * 99, attempt_tokens=tokens) for tokens in (10, 20, 90)])
    assert (drift["tokens"]["mean"], drift["tokens"]["median"]) == (40, 20)
    assert drift["reflections_per_1000_words"] == pytest.approx(10)
