"""An option is named by its letter, however that is written, or by what it says; letters inside words name nothing."""

from collections.abc import Iterator

import pytest

from cgd_ray.grading.grader import Grader
from cgd_ray.grading.graders import grader_named
from cgd_ray.grading.verdict import Answer, Ungradable, Verdict

CHOICES = ["5 cm", "A dog", "$\\frac{1}{2}$", "all of these"]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with grader_named("multiple-choice", timeout_s=20.0, num_workers=1) as made:
        yield made


def verdict(grader: Grader, text: str, reference: str = "B", choices: list[str] | None = CHOICES) -> Verdict:
    (made,) = grader.verdicts([Answer(text=text, reference=reference, fields={} if choices is None else {"choices": choices})])
    return made


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "(B)",
        "b",
        "B.",
        "**B**",
        "B) A dog",
        "(B) A dog",
        r"\boxed{B}",
        r"\boxed{\text{B}}",
        r"\boxed{\textbf{(B)}\ \text{A dog}}",
        r"\boxed{\text{Option B}}",
        "Answer: B",
        "**Answer: (B)**",
        "The answer is B because dogs bark.",
        "The correct option is B.",
        "The answer is $\\text{B}$.",
        "A is wrong, since I think so.\nSo it must be (B).",
        "Let us see.\nB. A dog",
        "Not (A).\n\nThe best choice is (B).",
    ],
)
@pytest.mark.parametrize("choices", [CHOICES, None])
def test_a_letter_is_read_however_it_is_written(text: str, choices: list[str] | None, grader: Grader) -> None:
    assert verdict(grader, text, choices=choices).correct is True
    assert verdict(grader, text, reference="C", choices=choices).correct is False


@pytest.mark.parametrize(
    "text",
    [
        "A dog is what I see.",
        "Because of that",
        "I think it is nothing.",
        "A",
        "The answer is A or B.",
        r"\boxed{A, B}",
        r"\boxed{AB}",
        r"\boxed{Bear}",
        "It may be (A) or (B).",
        r"\boxed{C} although B looks good. Answer: B",
        r"\boxed{Z}",
        "The answer is Barcelona.",
        "",
    ],
)
@pytest.mark.parametrize("choices", [CHOICES, None])
def test_letters_in_words_articles_and_several_options_are_no_answer(text: str, choices: list[str] | None, grader: Grader) -> None:
    assert verdict(grader, text, choices=choices).correct is False


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{5\text{ cm}}", "A"),
        ("The answer is a dog.", "B"),
        ("So we have\nA dog", "B"),
        (r"\boxed{0.5}", "C"),
        (r"The answer is: \[ \dfrac{2}{4} \]", "C"),
        (r"\boxed{\text{All of these}}", "D"),
    ],
)
def test_what_an_option_says_is_that_option(text: str, letter: str, grader: Grader) -> None:
    made = verdict(grader, text, letter)
    assert (made.correct, made.extracted, made.reason) == (True, letter, "its text")
    assert verdict(grader, text, CHOICES["ABCD".index(letter)]).correct is True


def test_a_verdict_tells_the_letter_and_what_was_wanted(grader: Grader) -> None:
    assert verdict(grader, "Answer: C") == Verdict(correct=False, extracted="C", reason="its letter, not B", found_by="phrase")
    assert verdict(grader, r"\boxed{E}").reason == "none of the 4 options"


def test_a_row_without_an_option_as_its_reference_is_refused_with_both(grader: Grader) -> None:
    with pytest.raises(Ungradable, match=r"'7 cm' is none of its choices \['5 cm', 'A dog'\]"):
        verdict(grader, "B", "7 cm", ["5 cm", "A dog"])
    with pytest.raises(Ungradable, match="'seven' is none of the letters A to J"):
        verdict(grader, "B", "seven", None)
    with pytest.raises(Ungradable, match=r"must be a list of 2 to 26 texts.*'5 cm'"):
        grader.verdicts([Answer(text="B", reference="A", fields={"choices": "5 cm"})])
