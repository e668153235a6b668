"""Leaks are found however they are written, and not where a number, a copy or a word is there for another reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgd_ray.selection.leakage import (
    LEAKS,
    answer_in_critique,
    find_leaks,
    refinement_copies_attempt,
    refinement_mentions_review,
)
from tests.builders import tiny_records

LONG = [f"word{index}" for index in range(300)]


def record(**columns: Any) -> dict[str, Any]:
    """A record without leaks, but for the columns given."""
    (row,) = tiny_records(1)
    clean = {"question": "How many legs has an ant?", "reference_answer": "7", "attempt": "It is 5.", "critique": "Count again."}
    return {**row, **clean, "refinement": "An ant has six of them and another.", **columns}


TOLD = [
    ("7", "It should be 7."),
    ("7", "The answer is $7$."),
    ("7", "the answer is **7**"),
    ("7", "so \\boxed{7}\nConclusion: wrong"),
    ("7", "x=7"),
    ("7", "that makes 7.00 in all"),
    ("7", "that is \\$7"),
    ("7", "3 + 4 = 7, not 5"),
    ("7", "10 - 7 = 3"),
    ("7", "at 7 miles/hour"),
    ("7", "In step 2 the sum is 7."),
    ("-7", "The answer is -7."),
    ("-7", "x = −7"),
    ("1000", "It costs 1,000 dollars."),
    ("1,000", "It costs $1{,}000$."),
    ("0.5", "that is 0.5"),
    ("3/4", "the share is \\frac{3}{4}"),
    ("\\frac34", "the share is 3/4"),
    ("\\dfrac{3}{4}", "the share is $\\tfrac{3}{4}$"),
    ("90^\\circ", "the angle is $90^{\\circ}$"),
    ("90", "the angle is $90^\\circ$"),
    ("25\\%", "a share of 25%"),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "the point is $(3,\\frac{\\pi}{2})$"),
    ("\\frac{14}{3}", "\\boxed{\\frac{14}{3}}"),
    ("-\\frac{1}{3}", "it is $-\\frac13$"),
    ("3\\sqrt{13}", "\\boxed{3 \\sqrt{13}}"),
    ("\\frac{\\pi}{2}", "\\boxed{\\frac{\\pi}{2}}"),
    ("2\\sqrt{3}", "the side is $2\\sqrt{3}$."),
    ("x^2+1", "so $x^2 + 1$"),
    ("Evelyn", "It was evelyn."),
    ("\\text{Evelyn}", "It was Evelyn."),
]
NOT_TOLD = [
    ("7", "It should be 17."),
    ("7", "It should be 70."),
    ("7", "It should be 7.5."),
    ("7", "It should be 3.7."),
    ("7", "It should be 7,000."),
    ("7", "It should be -7."),
    ("-7", "10-7 is 3"),
    ("7", "the share is 7/2"),
    ("7", "the share is \\frac{7}{2}"),
    ("7", "so $\\sqrt{7}$"),
    ("7", "so $x^7$ and $x_{7}$"),
    ("7", "so 7x is too much"),
    ("7", "Step 7: look again"),
    ("7", "Steps 5 and 7 are wrong."),
    ("7", "6. Look again.\n7. Then think.\n"),
    ("7", "**7)** Then think."),
    ("7", "Equation (7) is wrong."),
    ("0.5", "that is 10.5"),
    ("x^2+1", "so 3x^2 + 1"),
    ("2\\sqrt{3}", "so 12\\sqrt{3}"),
    ("Eve", "It was Evelyn."),
    ("A", "A mistake was made."),
    ("no", "There is no mistake."),
    ("True", "The statement is true of both."),
    ("", "It should be 7."),
    (None, "It should be 7."),
]


@pytest.mark.parametrize(("answer", "critique"), TOLD)
def test_an_answer_that_the_critique_tells_is_found(answer: str, critique: str) -> None:
    assert answer_in_critique(record(reference_answer=answer, critique=critique))


@pytest.mark.parametrize(("answer", "critique"), NOT_TOLD)
def test_parts_of_numbers_labels_and_everyday_words_are_no_answer(answer: str | None, critique: str) -> None:
    assert not answer_in_critique(record(reference_answer=answer, critique=critique))


@pytest.mark.parametrize("known", [{"question": "Which of 5 and 7 is it?"}, {"attempt": "It is \\boxed{7}."}])
def test_an_answer_that_was_there_before_is_not_told_by_the_critique(known: dict[str, str]) -> None:
    assert not answer_in_critique(record(critique="It is 7.", **known))


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_number_is_found_in_a_critique_that_names_it_and_in_no_other(answer: int, named: int) -> None:
    row = record(reference_answer=str(answer), critique=f"It should be {named}.", attempt="", question="How many?")
    assert answer_in_critique(row) == (answer == named)


def test_a_copy_is_found_whatever_its_white_space() -> None:
    assert refinement_copies_attempt(record(attempt="So 1 + 1\n\nis 2. ", refinement="So 1 + 1 is 2."))


def test_a_copy_of_a_right_attempt_is_found_too() -> None:
    assert refinement_copies_attempt(record(attempt="It is 7.", refinement="It is 7.", attempt_correct=True, verdict="right"))


def test_a_long_copy_with_a_word_changed_is_found() -> None:
    assert refinement_copies_attempt(record(attempt=" ".join(LONG), refinement=" ".join([*LONG[:-1], "other"])))


@pytest.mark.parametrize(
    ("attempt", "refinement"),
    [
        ("It is 5.", "It is 7."),
        ("", ""),
        (None, "It is 7."),
        (" ".join(LONG), " ".join(LONG[:150])),
        (" ".join(LONG), " ".join(reversed(LONG))),
    ],
)
def test_another_solution_is_no_copy(attempt: str | None, refinement: str) -> None:
    assert not refinement_copies_attempt(record(attempt=attempt, refinement=refinement))


@given(st.text(), st.text())
def test_copying_goes_both_ways(attempt: str, refinement: str) -> None:
    there = refinement_copies_attempt(record(attempt=attempt, refinement=refinement))
    assert there == refinement_copies_attempt(record(attempt=refinement, refinement=attempt))


MENTIONS = [
    "The student forgot to carry.",
    "the student's mistake was to add",
    "The  attempt is right, so",
    "Your first attempt was close.",
    "As the critique says, 3 + 4 is 7.",
    "Based on critique, we add.",
    "The review is right.",
    "As the reviewer noted, we add.",
    "Thanks to your feedback, we add.",
    "The previous solution added wrongly.",
    "the given solution is wrong",
    "Unlike in the incorrect attempt, we add.",
    "The previous answer was 5.",
    "**Corrected Solution:** we add",
    "Here is the improved solution.",
    "Your mistake was to add.",
]
NO_MENTIONS = [
    "We attempt to add.",
    "Let us review what is known.",
    "The first solution is x = 2, the second x = 3.",
    "None of the given answer choices fits.",
    "You can check your answer by adding.",
    "There are 3 students.",
    "The solution is 7.",
    "The studentship is paid.",
]


@pytest.mark.parametrize("refinement", MENTIONS)
def test_talk_of_a_review_is_found(refinement: str) -> None:
    assert refinement_mentions_review(record(refinement=refinement))


@pytest.mark.parametrize("refinement", NO_MENTIONS)
def test_plain_solutions_are_left_alone(refinement: str) -> None:
    assert not refinement_mentions_review(record(refinement=refinement))


@pytest.mark.parametrize(
    ("question", "refinement"),
    [
        ("A student has 3 pens. How many has the student?", "The student has 3."),
        ("Students take an exam. How many pass?", "So the student passes."),
        ("Tom attempts 3 shots. How many hit?", "At the first attempt he hits."),
        ("A salt solution is diluted. How strong is it?", "The original solution has 2 g of salt."),
        ("Ann writes 4 reviews of a book a day. How many a week?", "The review takes an hour."),
    ],
)
def test_words_that_the_question_brings_along_do_not_count(question: str, refinement: str) -> None:
    assert not refinement_mentions_review(record(question=question, refinement=refinement))


def test_another_word_counts_in_a_problem_about_a_student() -> None:
    refinement = "The student has 3, not 4 as the critique says."
    assert refinement_mentions_review(record(question="A student has 3 pens. How many?", refinement=refinement))


def test_a_record_has_all_its_leaks_in_order() -> None:
    assert find_leaks(record()) == []
    text = "The student has it wrong."
    assert find_leaks(record(critique="It is 7.", attempt=text, refinement=text)) == list(LEAKS)


@given(st.fixed_dictionaries({name: st.text() for name in ("question", "reference_answer", "attempt", "critique", "refinement")}))
def test_no_text_breaks_the_search(columns: dict[str, str]) -> None:
    assert set(find_leaks(record(**columns))) <= set(LEAKS)


@pytest.mark.parametrize(
    "piece", ["\n", " \n", "^" + " " * 199_998, "7", "$ ", "-", "*(", "1,000,", "\\frac{", "the first ", "step 1 and ", "{{"]
)
def test_a_long_text_takes_no_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    assert set(find_leaks(record(question=text, attempt=text, critique=text, refinement=text + "x"))) <= set(LEAKS)
