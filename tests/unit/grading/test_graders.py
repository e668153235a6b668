"""Graders have names, give reasons, cross processes, and survive what is in an answer or in a user's function."""

import multiprocessing
import pickle

import pytest

from cgd_ray.grading.grader import Grader
from cgd_ray.grading.graders import GRADERS, grader_named, kind_named
from cgd_ray.grading.verdict import Answer, Ungradable, Verdict

OWN = "tests.unit.grading.own_graders"


def verdict(name: str, text: str | None, reference: str | None) -> Verdict:
    made = kind_named(name).at_once(Answer(text=text, reference=reference))
    assert made is not None, "these are decided at once"
    return made


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("boxed-maths", "unknown grader 'boxed-maths'; did you mean boxed-math or boxed-math-strict?"),
        ("IFEval", "did you mean ifeval"),
        ("x", "unknown grader 'x'; there are boxed-math, boxed-math-strict, loose"),
        ("own/grader.py:check", "written package.module:function"),
        (f"{OWN}:nothing", f"grader {OWN}:nothing: the module {OWN} has no nothing"),
        (f"{OWN}:NO_FUNCTION", "something else than a function as NO_FUNCTION"),
        (f"{OWN}:takes_two", f"grader {OWN}:takes_two must take three values: text, reference and fields"),
        ("no_such_package.here:check", "no_such_package.here cannot be imported .ModuleNotFoundError.*; install it, or set PYTHONPATH"),
    ],
)
def test_a_name_that_is_none_is_refused_in_one_line_that_names_it(name: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as refused:
        grader_named(name, timeout_s=5.0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [*GRADERS, f"{OWN}:says_why"])
def test_a_grader_crosses_processes_by_its_kind(name: str) -> None:
    with grader_named(name, timeout_s=5.0, num_workers=1) as grader, pickle.loads(pickle.dumps(grader)) as other:  # noqa: S301
        assert isinstance(other, Grader)
        assert other.kind == grader.kind == kind_named(name)
        assert other.kind.name == name


def test_mathematics_takes_a_phrase_or_the_last_number_where_no_box_is_and_says_so() -> None:
    box, phrase = verdict("boxed-math", r"It is \boxed{4}.", "4"), verdict("boxed-math", "The answer is $4$.", "4")
    assert box == Verdict(correct=True, extracted="4", reason="equal: written alike", found_by="box")
    assert (phrase.correct, phrase.found_by) == (True, "phrase")
    number = verdict("boxed-math", "This makes 3 and then 4", "4")
    assert (number.correct, number.found_by) == (True, "last number")
    assert verdict("boxed-math", r"The answer is 4. It is \boxed{5}.", "4").correct is False
    assert verdict("boxed-math", "None.", "4") == Verdict(correct=False, extracted=None, reason="no box, phrase, last number")
    assert verdict("boxed-math-strict", "The answer is 4.", "4") == Verdict(correct=False, extracted=None, reason="no box")
    assert verdict("boxed-math", r"\boxed{3}", "4").reason == "unequal: numbers relatively to their size"


def test_without_a_text_or_a_reference_the_reason_is_that() -> None:
    for name in ("boxed-math", "loose", "exact", "multiple-choice"):
        assert verdict(name, None, "4") == Verdict(correct=None, extracted=None, reason="no answer")
        assert verdict(name, "4", None) == Verdict(correct=None, extracted=None, reason="no reference")


def test_the_loose_grader_rounds_to_one_decimal_and_says_so() -> None:
    rounded = verdict("loose", "This makes 3.14 m", "3.1416")
    assert (rounded.correct, rounded.extracted, rounded.found_by) == (True, "3.14", "last number")
    assert "rounding to one decimal" in rounded.reason
    exact, wrong = verdict("loose", r"\boxed{3.1416}", "3.1416"), verdict("loose", r"\boxed{3.2}", "3.1416")
    assert (exact.reason, wrong.correct) == ("equal: written alike", False)
    assert verdict("loose", r"\boxed{\text{red}}", "blue").correct is False
    assert verdict("loose", "nothing", "4").reason == "no number"
    numbers = kind_named("loose").numbers([], [rounded, exact, wrong, wrong])
    assert numbers == {"not_rounded": 0.25}
    assert verdict("boxed-math", r"\boxed{3.14}", "3.1416").correct is False


@pytest.mark.parametrize("text", ["答案：３．５", "共有３．５个", "Die Antwort lautet 3.5.", "答えは3.5です。"])
def test_answers_in_other_languages_and_digits_are_read(text: str) -> None:
    assert verdict("boxed-math", text, "3.5").correct is True


@pytest.mark.parametrize(
    ("text", "right"),
    [("ab  c\n", True), (r"So \boxed{ab c}", True), ("The answer is ab c.", True), ("AB c", False), ("ab, c", False), (" ", False)],
)
def test_exact_answers_may_differ_in_white_space_only(text: str, right: bool) -> None:
    assert verdict("exact", text, "ab c").correct is right


def test_a_users_function_is_asked_with_the_rows_fields() -> None:
    with grader_named(f"{OWN}:says_the_word", timeout_s=20.0, num_workers=1) as grader:
        rows = [Answer(text=text, reference=None, fields={"word": "dog"}) for text in ("a dog", "a cat")]
        assert [made.correct for made in grader.verdicts(rows)] == [True, False]
        assert grader.verdicts([Answer(text=None, reference=None)])[0].reason == "no answer"
        (failed,) = grader.verdicts([Answer(text="a dog", reference=None)])
        assert (failed.correct, failed.reason) == (None, f"{OWN}:says_the_word raised KeyError: 'word'")
    with grader_named(f"{OWN}:says_why", timeout_s=20.0, num_workers=1) as grader:
        assert grader.verdicts([Answer(text="fine", reference=None)])[0].reason == "three letters are asked for"


def test_a_users_function_that_hangs_eats_dies_or_fails_costs_its_own_verdict_and_leaves_no_process() -> None:
    texts = ["fine", "hang", "fine", "eat", "die", "fail", "fine"]
    with grader_named(f"{OWN}:does_what_it_is_told", timeout_s=1.0, num_workers=1) as grader:
        verdicts = grader.verdicts([Answer(text=text, reference="4") for text in texts])
        assert [made.correct for made in verdicts] == [True, False, True, False, False, None, True]
        assert [made.reason for made in verdicts][1:6:2] == [
            "timeout",
            "too much memory",
            f"{grader.kind.name} raised RuntimeError: as told",
        ]
        with pytest.raises(Ungradable, match=r"does_what_it_is_told must return a bool or a Verdict, it returned 'perhaps'.*'4'"):
            grader.verdicts([Answer(text="hesitate", reference="4")])
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("pebble")]
