"""When two answers are equal: a table of rules, each for two kinds of forms; the first row that fits decides.

Why not math-verify alone: it rounds numbers to six places whatever their size, multiplies the letters of words, subtracts the ends of
ranges and drops the base of a number or the "p.m." of a time. It decides here what takes algebra, and only that.
How to use: `judge(answer, reference, algebra)`. Without an algebra what needs one stays undecided (`right is None`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cgd_ray.grading.equivalence import forms
from cgd_ray.grading.equivalence.forms import Form
from cgd_ray.grading.equivalence.numbers import same_number
from cgd_ray.grading.equivalence.reading import read

MAX_UNORDERED_ITEMS = 50  # each is compared with each; longer lists must agree in their order
Algebra = Callable[[Form, Form], bool | None]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Is an answer right, and which rule says so? None where it takes algebra that was not given."""

    right: bool | None
    rule: str


def judge(answer: str, reference: str, algebra: Algebra | None = None) -> Judgement:
    """Compare an answer with the reference."""
    return compare(read(answer), read(reference), algebra or (lambda answer, reference: None))


def compare(answer: Form, reference: Form, algebra: Algebra) -> Judgement:
    """Compare two forms; a rule for two different kinds holds whichever of the two the answer is."""
    if _key(answer.source) == _key(reference.source):
        return Judgement(right=bool(answer.source), rule="written alike")
    for name, first, second, decide in RULES:
        if isinstance(answer, first) and isinstance(reference, second):
            return Judgement(right=decide(answer, reference, algebra), rule=name)
        if isinstance(answer, second) and isinstance(reference, first):
            return Judgement(right=decide(reference, answer, lambda one, other: algebra(other, one)), rule=name)
    return Judgement(right=False, rule="different kinds")


def _key(source: str) -> str:
    """The source without the spaces and braces that LaTeX does not need."""
    return re.sub(r"\{(\w)\}", r"\1", re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", source))


def _equal(answer: Form, reference: Form, algebra: Algebra) -> bool | None:
    return compare(answer, reference, algebra).right


def _numbers(answer: forms.Number, reference: forms.Number, algebra: Algebra) -> bool:
    first, second = answer.unit, reference.unit
    if not first.agrees_with(second):
        return False
    if first.percent == second.percent:
        return same_number(answer, reference)
    percent, other = (answer, reference) if first.percent else (reference, answer)
    places = None if percent.places is None else percent.places + 2
    share = forms.Number(source=percent.source, value=percent.value / 100, places=places)
    return same_number(percent, other) or same_number(share, other)  # 50% is 50 as well as 0.5


def _expressions(answer: forms.Expression, reference: forms.Expression, algebra: Algebra) -> bool | None:
    if "value" in (answer.kind, reference.kind) and answer.kind != reference.kind:
        return False  # x + 1 = 5 is not 5
    return answer.unit.agrees_with(reference.unit) and algebra(answer, reference)


def _expression_and_number(expression: forms.Expression, number: forms.Number, algebra: Algebra) -> bool | None:
    return expression.kind == "value" and expression.unit.agrees_with(number.unit) and algebra(expression, number)


def _expression_and_matrix(expression: forms.Expression, matrix: forms.Matrix, algebra: Algebra) -> bool | None:
    return "\\begin" in expression.source and algebra(expression, matrix)


def _named(answer: forms.Named, reference: forms.Named, algebra: Algebra) -> bool | None:
    if answer.name == reference.name:
        return _equal(answer.value, reference.value, algebra)
    if any(isinstance(form.value, forms.Expression | forms.Text) for form in (answer, reference)):
        return algebra(answer, reference)  # y = 2x and x = y/2
    return False


def _named_and_bare(named: forms.Named, bare: Form, algebra: Algebra) -> bool | None:
    is_relation = isinstance(bare, forms.Expression) and bare.kind in ("equation", "inequality")
    return algebra(named, bare) if is_relation else _equal(named.value, bare, algebra)


def _choices(answer: forms.Choice, reference: forms.Choice, algebra: Algebra) -> bool | None:
    if answer.letter != reference.letter or answer.content is None or reference.content is None:
        return answer.letter == reference.letter
    return _equal(answer.content, reference.content, algebra)


def _choice_and_bare(choice: forms.Choice, bare: Form, algebra: Algebra) -> bool | None:
    if isinstance(bare, forms.Text) and len(bare.words) == 1:
        return choice.letter == bare.words
    return choice.content is not None and _equal(choice.content, bare, algebra)


def _groups(answer: forms.Group, reference: forms.Group, algebra: Algebra) -> bool | None:
    if len(answer.items) != len(reference.items):
        return False
    brackets = (answer.opening + answer.closing, reference.opening + reference.closing)
    if answer.ordered and reference.ordered:
        is_interval = len(answer.items) == 2
        return _in_order(answer.items, reference.items, algebra) if brackets[0] == brackets[1] or not is_interval else False
    if answer.ordered or reference.ordered:
        bare = brackets[0] == "" or brackets[1] == ""
        open_or_long = "()" in brackets or len(answer.items) > 2
        return _in_order(answer.items, reference.items, algebra) if bare and open_or_long else False
    if len(answer.items) > MAX_UNORDERED_ITEMS or _names_only_one(answer.items, reference.items):
        return _in_order(answer.items, reference.items, algebra)
    return _in_any_order(answer.items, reference.items, algebra)


def _names_only_one(answer: Sequence[Form], reference: Sequence[Form]) -> bool:
    """Does one of the two name its values differently (x = 2, y = 1), and the other not at all (2, 1)?"""
    names = [[item.name for item in items if isinstance(item, forms.Named)] for items in (answer, reference)]
    return any(len(set(mine)) > 1 and not others for mine, others in (names, names[::-1]))


def _in_order(answer: Sequence[Form], reference: Sequence[Form], algebra: Algebra) -> bool | None:
    return _all(_equal(one, other, algebra) for one, other in zip(answer, reference, strict=True))


def _in_any_order(answer: Sequence[Form], reference: Sequence[Form], algebra: Algebra) -> bool | None:
    rest, undecided = list(reference), False
    for item in answer:
        verdicts = [_equal(item, other, algebra) for other in rest]
        if True in verdicts:
            del rest[verdicts.index(True)]
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _all(verdicts: Any) -> bool | None:
    found = set()
    for verdict in verdicts:
        if verdict is False:
            return False
        found.add(verdict)
    return None if None in found else True


def _group_and_other(group: forms.Group, other: Form, algebra: Algebra) -> bool | None:
    if len(group.items) == 1:
        return _equal(group.items[0], other, algebra)
    is_set = isinstance(other, forms.Expression) and other.kind in ("inequality", "set")
    return bool(group.opening) and is_set and algebra(group, other)  # an interval and an inequality


def _matrices(answer: forms.Matrix, reference: forms.Matrix, algebra: Algebra) -> bool | None:
    if [len(row) for row in answer.rows] != [len(row) for row in reference.rows]:
        return False
    return _all(_in_order(one, other, algebra) for one, other in zip(answer.rows, reference.rows, strict=True))


def _clocks(answer: forms.Clock, reference: forms.Clock, algebra: Algebra) -> bool:
    return answer.seconds == reference.seconds


def _clock_and_ratio(clock: forms.Clock, ratio: forms.Ratio, algebra: Algebra) -> bool:
    return bool(clock.ratio) and _proportional(clock.ratio, ratio.parts)


def _clock_and_number(clock: forms.Clock, number: forms.Number, algebra: Algebra) -> bool:
    return bool(clock.ratio) and clock.ratio[0] == number.value * clock.ratio[1] and clock.ratio[1] != 0


def _ratios(answer: forms.Ratio, reference: forms.Ratio, algebra: Algebra) -> bool:
    return _proportional(answer.parts, reference.parts)


def _ratio_and_number(ratio: forms.Ratio, number: forms.Number, algebra: Algebra) -> bool:
    return len(ratio.parts) == 2 and ratio.parts[1] != 0 and ratio.parts[0] == number.value * ratio.parts[1]


def _proportional(first: Sequence[Any], second: Sequence[Any]) -> bool:
    same_length = len(first) == len(second) and any(first) and any(second)
    return (
        same_length and all(a * second[0] == b * first[0] for a, b in zip(first, second, strict=True)) and bool(first[0]) == bool(second[0])
    )


def _dates(answer: forms.Date, reference: forms.Date, algebra: Algebra) -> bool:
    return (answer.year, answer.month, answer.day) == (reference.year, reference.month, reference.day)


def _based(answer: forms.Based, reference: forms.Based, algebra: Algebra) -> bool:
    return (answer.digits, answer.base) == (reference.digits, reference.base)


def _ranges(answer: forms.Range, reference: forms.Range, algebra: Algebra) -> bool:
    ends = ((answer.low, reference.low), (answer.high, reference.high))
    return all(same_number(one, other) for one, other in ends) and answer.high.unit.agrees_with(reference.high.unit)


def _texts(answer: forms.Text, reference: forms.Text, algebra: Algebra) -> bool:
    return answer.words == reference.words


def _text_and_expression(text: forms.Text, expression: forms.Expression, algebra: Algebra) -> bool | None:
    is_variable = len(text.words) == 1 and (text.words in expression.source or text.words == "e")
    return is_variable and algebra(text, expression)


# Each row: what it is about, the kinds of the two forms, and what decides.
RULES: tuple[tuple[str, type[Form], type[Form], Callable[..., bool | None]], ...] = (
    ("an option's letter, else what it says", forms.Choice, forms.Choice, _choices),
    ("an option's letter, else what it says", forms.Choice, Form, _choice_and_bare),
    ("the same name, the same value", forms.Named, forms.Named, _named),
    ("a name may be left out", forms.Named, Form, _named_and_bare),
    ("item by item, in order where brackets say so", forms.Group, forms.Group, _groups),
    ("one item is no group", forms.Group, Form, _group_and_other),
    ("cell by cell", forms.Matrix, forms.Matrix, _matrices),
    ("numbers relatively to their size", forms.Number, forms.Number, _numbers),
    ("the same time of day", forms.Clock, forms.Clock, _clocks),
    ("a time that is a ratio", forms.Clock, forms.Ratio, _clock_and_ratio),
    ("a time that is a ratio", forms.Clock, forms.Number, _clock_and_number),
    ("in proportion", forms.Ratio, forms.Ratio, _ratios),
    ("a ratio as a fraction", forms.Ratio, forms.Number, _ratio_and_number),
    ("the same day", forms.Date, forms.Date, _dates),
    ("the same digits in the same base", forms.Based, forms.Based, _based),
    ("the same two ends", forms.Range, forms.Range, _ranges),
    ("the same words", forms.Text, forms.Text, _texts),
    ("words are no mathematics", forms.Text, forms.Expression, _text_and_expression),
    ("algebra", forms.Expression, forms.Expression, _expressions),
    ("algebra", forms.Expression, forms.Number, _expression_and_number),
    ("algebra", forms.Expression, forms.Matrix, _expression_and_matrix),
)
