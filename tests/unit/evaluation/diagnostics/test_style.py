"""What is told of one answer: loops against a search by hand, words of reflection, boxes, whom it speaks of."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgd_ray.evaluation.diagnostics.style import LONGEST_PERIOD, LOOP_PIECES, LOOP_REPETITIONS, distinct_share, has_loop, style_of


def answer(text: str | None, **columns: Any) -> dict[str, Any]:
    defaults = {"question": "What is 2 + 3?", "attempt_thinking": None, "attempt_tokens": 9, "attempt_finish_reason": "stop"}
    return {**defaults, "attempt": text, "error": None, **columns}


def loops_by_hand(pieces: list[str]) -> bool:
    """From the definition: some stretch repeats its first `period` pieces, often enough and long enough."""
    for period in range(1, LONGEST_PERIOD + 1):
        for start in range(len(pieces) - period + 1):
            end = start + period
            while end < len(pieces) and pieces[end] == pieces[end - period]:
                end += 1
            if end - start >= max(LOOP_REPETITIONS * period, LOOP_PIECES):
                return True
    return False


@settings(max_examples=60)
@given(
    before=st.lists(st.sampled_from("ab"), max_size=20),
    unit=st.lists(st.sampled_from("abc"), min_size=1, max_size=LONGEST_PERIOD + 2),
    times=st.integers(1, 60),
    cut=st.integers(0, 10),
)
def test_loops_are_those_of_the_definition(before: list[str], unit: list[str], times: int, cut: int) -> None:
    pieces = (before + unit * times)[: max(1, 300 - cut)]
    assert has_loop(pieces) == loops_by_hand(pieces)


@pytest.mark.parametrize(
    ("text", "is_loop"),
    [
        ("The answer is five because five is two and three. " * 5, True),
        ("1/3 = 0." + "3" * 60, True),
        ("1/3 = 0.333333333333", False),
        (r"\begin{pmatrix} 0 & 0 & 0 & 0 \\ 0 & 0 & 0 & 0 \\ 0 & 0 & 0 & 0 \end{pmatrix}", False),
        (" ".join(f"Step {number}: add {number} to {7 * number}." for number in range(1, 30)), False),
        ("", False),
    ],
)
def test_what_runs_in_circles_is_a_loop_and_what_is_only_alike_is_none(text: str, is_loop: bool) -> None:
    assert style_of(answer(text)).has_loop == is_loop


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Wait, let me check that. Hmm, actually no.", 4),
        ("Let me double-check: 2 + 3. Alternatively, count.", 2),
        ("I made a small mistake. Hold on. Is that right?", 3),
        ("Let’s verify. That’s not right.", 2),
        ("Let me represent the sum as an awaited value, and check the box.", 0),
        ("The waiter rewrote the equation; it is right.", 0),
    ],
)
def test_words_of_reflection_are_counted(text: str, count: int) -> None:
    assert style_of(answer(text)).num_reflections == count


def test_thoughts_count_for_reflection_and_not_for_what_the_reader_sees() -> None:
    style = style_of(answer("It is \\boxed{5}.", attempt_thinking="Hmm. The student's attempt says \\boxed{6}. Wait."))
    assert (style.num_reflections, style.thinks, style.mentions_review, style.is_boxed) == (2, True, False, True)
    assert style_of(answer("As the critique says, it is 5.")).mentions_review


def test_thoughts_that_were_left_in_the_text_are_thoughts() -> None:
    assert style_of(answer("<think>Two and three.</think>It is 5.")).thinks
    assert not style_of(answer("It is 5.")).thinks


def test_an_answer_that_is_missing_is_an_empty_one() -> None:
    style = style_of(answer(None, attempt_tokens=None, attempt_finish_reason="length"))
    assert (style.is_boxed, style.is_truncated, style.num_tokens, style.distinct) == (False, True, 0, None)


def test_distinct_runs_are_counted_against_all() -> None:
    assert distinct_share(list("abcde")) == 1.0
    assert distinct_share(list("aaaaa")) == 0.5
    assert distinct_share(list("abc")) is None
