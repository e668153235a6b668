"""The verdict parser reads what teachers write, and reads nothing into what they do not."""

import pytest

from cgd_ray.selection.verdicts import parse_verdict, says_nothing_else, without_conclusion

RIGHT = [
    "Conclusion: right",
    "conclusion: RIGHT",
    "Conclusion: right.",
    "**Conclusion: right**",
    "**Conclusion:** right",
    "Conclusion: **right** [END]",
    "Conclusion: right [END]",
    "[Conclusion: right]",
    "### Conclusion: right",
    "- Conclusion: right",
    "Conclusion - right",
    "Conclusion right",
    "Conclusion is right",
    "Conclusion: correct",
    "Conclusion: The solution is correct.",
    "Conclusion: the student's answer is correct",
    "Conclusion: It is entirely correct!",
    "Conclusion: not wrong",
    "Conclusion: it isn't wrong",
    "Conclusion: \\boxed{right}",
    "Conclusion: \\text{right}",
    "Conclusion: 'right'",
    "Conclusion: right<|im_end|>",
    "Final verdict: right",
    "Verdict: correct",
    "Judgement: true",
    "Overall conclusion: valid",
    "Conclusion:\nright",
    "Conclusion:\n\n**Right**",
    "Step 2 looks wrong at first, but is fine.\nConclusion: right",
    "Conclusion: right\n\n[END]",
    "Conclusion: right\nThank you.",
    "Conclusion: right, because every step holds",
    "Conclusion: right\nConclusion: right",
]
WRONG = [
    "Conclusion: wrong",
    "CONCLUSION: WRONG",
    "Conclusion: wrong [END]",
    "**Conclusion: wrong.**",
    "Conclusion: incorrect",
    "Conclusion: not correct",
    "Conclusion: not entirely right",
    "Conclusion: The attempt is wrong.",
    "Conclusion: Therefore, the answer is incorrect.",
    "Conclusion: This solution is flawed",
    "Verdict: **incorrect**",
    "Final judgment: false",
    "The final result is right by luck.\nConclusion: wrong",
    "Conclusion: wrong, since 3 + 4 is 7",
    "Conclusion: it isn't right",
    "Conclusion: the answer wasn’t correct",
]
NONE = [
    "",
    "   \n\n",
    "The attempt is right.",
    "Conclusion:",
    "Conclusion: right or wrong",
    "Conclusion: either 'right' or 'wrong'",
    "Conclusion: partly right",
    "Conclusion: neither right nor wrong",
    "Conclusion: right\nConclusion: wrong",
    "Conclusion: wrong\nOn second thought:\nConclusion: right",
    "Conclusion: right for the wrong reasons",
    "Conclusion: unclear",
    "Conclusion: right\nConclusion: unclear",
    "In conclusion, one should study more.",
    "Conclusion: bright",
    "Conclusion: wrongly",
]


@pytest.mark.parametrize("critique", RIGHT)
def test_right_is_read_however_it_is_worded(critique: str) -> None:
    assert parse_verdict(critique) == "right"


@pytest.mark.parametrize("critique", WRONG)
def test_wrong_is_read_however_it_is_worded(critique: str) -> None:
    assert parse_verdict(critique) == "wrong"


@pytest.mark.parametrize("critique", NONE)
def test_missing_or_contradictory_verdicts_are_none(critique: str) -> None:
    assert parse_verdict(critique) is None


def test_a_long_line_of_markup_takes_no_time() -> None:
    assert parse_verdict("Conclusion: " + "*(" * 200_000) is None


@pytest.mark.parametrize(
    "critique", ["Line 2 is off.", "Line 2 is off.\n\nConclusion: wrong", "Line 2 is off.\n**Verdict:**\nincorrect.\n"]
)
def test_a_critique_is_what_stands_before_its_conclusion(critique: str) -> None:
    assert without_conclusion(critique) == "Line 2 is off."


def test_a_last_line_that_only_speaks_of_a_conclusion_is_kept() -> None:
    assert without_conclusion("Conclusion: the sum in line 2 needs another look") == "Conclusion: the sum in line 2 needs another look"


BARE = [
    "",
    " \n",
    "Conclusion: right",
    "**Conclusion: wrong.** [END]",
    "\\boxed{Conclusion: wrong}",
    "Conclusion:\nright",
    "Conclusion: right\n\nConclusion: right",
    "The attempt is right.\nConclusion: right",
]
TELLING = [
    "Line 2 is off.\nConclusion: wrong",
    "Conclusion: wrong, since 3 + 4 is 7",
    "3 + 4 = 7\nConclusion: wrong",
    "The attempt is wrong in line 2.",
    "Every step holds.\nConclusion: right",
]


@pytest.mark.parametrize("critique", BARE)
def test_a_critique_that_is_nothing_but_a_verdict_is_told(critique: str) -> None:
    assert says_nothing_else(critique)


@pytest.mark.parametrize("critique", TELLING)
def test_a_critique_with_any_reason_says_something(critique: str) -> None:
    assert not says_nothing_else(critique)
