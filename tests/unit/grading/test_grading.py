"""Equal answers are right in whatever form they are written, only the last box counts, and a pair that hangs costs its own verdict only."""

import time
from collections.abc import Iterator

import pytest

from cgd_ray.grading.extraction import boxed_answer, is_boxed
from cgd_ray.grading.grader import Grader

HANGING = [
    r"\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)}\right)} - 4\right)} - 5}{16}",  # math-verify's issue 65
    r"\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)}\right)} - 5}{16}",
]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(timeout_s=20.0, num_workers=2) as made:
        yield made


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("4", "4"),
        ("27.0", "27"),
        ("1,000", "1000"),
        (r"\frac{1}{2}", "0.5"),
        ("1/3", r"\frac13"),
        (r"50\%", "50"),
        (r"50\%", "0.5"),
        (r"\$5", "5"),
        (r"5\text{ cm}", "5"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("x^2 + 2x + 1", "(x+1)^2"),
        ("x = 4", "4"),
        (r"\{1, 2\}", r"\{2, 1\}"),
        (r"\left\{ 3 \right\}", r"\{3\}"),
        (r"\text{Paris}", "Paris"),
    ],
)
def test_equal_answers_are_right_in_other_forms(answer: str, reference: str, grader: Grader) -> None:
    assert grader.grade([(f"So it is $\\boxed{{{answer}}}$.", reference)]) == [True]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (r"\boxed{3}", "4"),
        (r"\boxed{-4}", "4"),
        (r"\boxed{(2, 1)}", "(1, 2)"),
        (r"\boxed{0.333}", "1/3"),
        (r"\boxed{A}", "B"),
        (r"\boxed{4}", ""),
        (r"\boxed{4}", r"\frac{1}{"),
        ("The answer is 4.", "4"),
        ("$4$", "4"),
        ("", "4"),
        (r"The answer is 4. \boxed{}", "4"),
        (r"I put the answer into \boxed{}: it is 4.", "4"),
        (r"\boxed{4", "4"),
    ],
)
def test_other_answers_and_unboxed_ones_are_wrong(text: str, reference: str, grader: Grader) -> None:
    assert grader.grade([(text, reference)]) == [False]


@pytest.mark.parametrize("between", ["", " ", ", no: ", " or ", ". Wait, that is wrong.\n\nIt is ", "\n" + "and then, " * 20])
def test_the_last_of_several_boxes_counts(between: str, grader: Grader) -> None:
    first_right, last_right = (f"\\boxed{{{first}}}{between}\\boxed{{{last}}}" for first, last in ((4, 3), (3, 4)))
    assert grader.grade([(first_right, "4"), (last_right, "4"), (f"${last_right}$ as {{8}} / {{2}} says", "4")]) == [False, True, True]


def test_without_a_text_or_a_reference_there_is_no_verdict(grader: Grader) -> None:
    assert grader.grade([(None, "4"), (r"\boxed{4}", None), (None, None)]) == [None] * 3
    assert grader.grade([]) == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{\frac{1}{2}} {x}", r"\frac{1}{2}"),
        (r"\boxed {4}", "4"),
        (r"\fbox{4}", "4"),
        (r"\boxed{\boxed{4}}", "4"),
        (r"\boxed 4$ or so", "4"),
        (r"\boxed{\left\{ x \right.} }", r"\left\{ x \right."),
        (r"\boxed{1}, \boxed{", None),
        (r"\boxed{ }", None),
        ("boxed{4}", None),
        ("\\boxed{" * 50_000, None),
    ],
    ids=range(10),
)
def test_a_boxed_answer_is_read_to_its_own_brace(text: str, answer: str | None) -> None:
    started = time.thread_time()  # other threads of the process, such as Ray's, are none of this
    assert boxed_answer(text) == answer
    assert time.thread_time() - started < 1.0


def test_a_text_is_boxed_where_a_box_begins() -> None:
    assert is_boxed(r"\boxed{4") is is_boxed(r"\fbox{4}") is True
    assert is_boxed("boxed 4") is is_boxed("") is False


def test_a_pair_that_hangs_costs_its_own_verdict_only() -> None:
    right, wrong = (r"\boxed{4}", "4"), (r"\boxed{3}", "4")
    hanging = [*((f"\\boxed{{{text}}}", "4") for text in HANGING), (r"\boxed{4}", HANGING[1])]
    with Grader(timeout_s=4.0, num_workers=2) as grader:
        started = time.monotonic()
        assert grader.grade([right, *hanging, wrong, right]) == [True, False, False, False, False, True]
        assert time.monotonic() - started < 60.0
        assert grader.grade([right]) == [True]
