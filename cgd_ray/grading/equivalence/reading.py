"""Reads an answer: from its text to the form that it is, by a table of readers of which the first that knows the text decides.

How to use: `read(answer)`. What no reader knows is an `Expression` for the algebra. Where a text can be read in two ways the table's order
decides, always towards the reading in which fewer answers are equal: `20-30` is a range and no difference, `AB` is text and no product.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from cgd_ray.grading.equivalence import forms
from cgd_ray.grading.equivalence.inequalities import RELATION, one_variable_and_its_set, with_the_smaller_first
from cgd_ray.grading.equivalence.quantities import read_number, read_unit
from cgd_ray.grading.equivalence.spelling import is_one_group, respell, split_outside, without_text_commands
from cgd_ray.grading.equivalence.vocabulary import BASES, FUNCTIONS, MONTHS

MAX_LENGTH = 2_000  # characters; a longer answer is compared as it stands

_SEPARATOR = re.compile(r"[,;]|\\text\s*\{[\s,;]*(?:and|or|和|或|与)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|[和或与]")
_EQUALS = re.compile(r"(?<![<>!:\\])=(?!=)|\\approx(?![a-zA-Z])")
_SET_OPERATION = re.compile(r"\\(?:cup|cap|setminus|backslash|mathbb|emptyset)(?![a-zA-Z])")
_THOUSANDS = re.compile(r"(?<![\d.,])(?<!\d\s)(\d{1,3})((?:,\d{3})+|(?: \d{3})+)(?![\d]|[,\s]\d)")
_ENVIRONMENT = re.compile(r"\\begin\{([a-zA-Z]+)\*?\}(?:\{[lcr|]+\})?(.*)\\end\{\1\*?\}")
_UNIT_BEHIND = re.compile(
    r"(?<=[\w})\]])\s*((?:\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?-?\d\}?)?[\s/]*|\\cdot)+|%|°|\s[a-zA-Z]{2,}(?:\^\{?\d\}?)?(?:/[a-zA-Z]+)?)$"
)
_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")  # their degrees are no unit of the whole
_WORD = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]{2,}")


def read(answer: str) -> forms.Form:
    """The form of an answer as a model or a data set wrote it."""
    if len(answer) > MAX_LENGTH:
        return forms.Text(source=answer, words=answer.strip())
    return _read(respell(answer))


def _read(text: str) -> forms.Form:
    for _, reader in READERS:
        if (form := reader(text)) is not None:
            return form
    raise AssertionError("the last reader takes everything")


def _date(text: str) -> forms.Form | None:
    bare = re.sub(r"\s+", " ", without_text_commands(text)).strip()
    day, year = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?", r"(?:,?\s*(?P<year>\d{4}))?"
    for pattern in (rf"(?P<month>[a-zA-Z]{{3,9}})\.? {day}{year}", rf"{day}(?: of)? (?P<month>[a-zA-Z]{{3,9}})\.?{year}"):
        if found := re.fullmatch(pattern, bare):
            months = [number for number, name in enumerate(MONTHS, 1) if name.startswith(found["month"].lower())]
            if len(months) == 1:
                return forms.Date(source=text, year=int(found["year"]) if found["year"] else None, month=months[0], day=int(found["day"]))
    if found := re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})|(\d{4})年(\d{1,2})月(\d{1,2})[日号]", bare):
        written = [int(part) for part in found.groups() if part]
        return forms.Date(source=text, year=written[0], month=written[1], day=written[2])
    # Day and month in an order that we cannot know, or a row of scores: compared digit by digit.
    if re.fullmatch(r"\d{1,2}/\d{1,2}/\d{2,4}|\d+(?:\s*-\s*\d+){2,}", bare):
        return forms.Text(source=text, words=re.sub(r"(?<!\d)0+(?=\d)|\s", "", bare))
    return None


def _clock(text: str) -> forms.Form | None:
    found = re.fullmatch(r"(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?\s*(?:([ap])\.?\s?m\.?)?", without_text_commands(text).strip(), re.IGNORECASE)
    if found is None or not (found[2] or found[4]):
        return None
    hours, minutes, seconds = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    if minutes > 59 or seconds > 59 or hours > (12 if found[4] else 24):
        return None
    if found[4]:
        hours = hours % 12 + (12 if found[4].lower() == "p" else 0)
    ratio = () if found[4] or found[3] else (Fraction(hours), Fraction(minutes))
    return forms.Clock(source=text, seconds=hours * 3600 + minutes * 60 + seconds, marked=found[4] is not None, ratio=ratio)


def _based(text: str) -> forms.Form | None:
    bare = without_text_commands(text).strip()
    found = re.fullmatch(
        r"\(?([0-9A-F]*\d[0-9A-F]*)\)?\s*(?:_\s*\{?\s*\(?(\d+|[a-z]+)\)?\s*\}?|\(?\s*(?:in )?base\s+(\d+|[a-z]+)\s*\)?)", bare
    )
    name = (found[2] or found[3]) if found else None
    if found is None or name is None or not (name.isdecimal() or name in BASES):
        return None
    return forms.Based(source=text, digits=found[1].lstrip("0") or "0", base=BASES.get(name) or int(name))


def _choice(text: str) -> forms.Form | None:
    bare = without_text_commands(text).strip()
    if found := re.fullmatch(r"(?:option|choice)\s*\(?([A-Za-z])\)?", bare, re.IGNORECASE):
        return forms.Choice(source=text, letter=found[1].upper(), content=None)
    if found := re.fullmatch(r"(?:\(([A-H])\)|([A-H])\)|([A-H])[.:](?=\s))\s*(\S.*)", bare):
        return forms.Choice(source=text, letter=found[1] or found[2] or found[3], content=_read(found[4]))
    return None


def _environment(text: str) -> forms.Form | None:
    inner = next((text[1:-1].strip() for pair in ("()", "[]") if is_one_group(text, *pair) and "\\begin" in text), text)
    if (found := _ENVIRONMENT.fullmatch(inner)) is None:
        return None
    rows = [row.strip() for row in re.split(r"\\\\(?:\[[^\]]*\])?", found[2]) if row.strip()]
    is_system = (found[1] == "cases" and "&" not in found[2]) or (found[1] == "array" and "=" in inner)
    if is_system or found[1] in ("aligned", "align", "gathered", "split", "alignedat"):
        return _group(text, "", "", [row.replace("&", "") for row in rows])
    if found[1] in ("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"):
        return forms.Matrix(source=text, rows=tuple(tuple(_read(cell.strip()) for cell in row.split("&")) for row in rows))
    return None


def _list(text: str) -> forms.Form | None:
    joined = _THOUSANDS.sub(lambda number: re.sub("[, ]", "", number[0]), text) if RELATION.search(text) is None else text
    items = [item for item in split_outside(joined, _SEPARATOR) if item]
    if len(items) > 1:
        return None if RELATION.search(text) and "=" not in text else _group(text, "", "", items)
    return _read(joined) if joined != text and not text.startswith(("(", "[", "\\{", "{")) else None


def _bracketed(text: str) -> forms.Form | None:
    for opening, closings in (("(", ")]"), ("[", "])"), ("\\{", ["\\}"]), ("{", "}")):
        for closing in closings:
            if is_one_group(text, opening, closing):
                inside = text[len(opening) : -len(closing)].strip()
                spaced = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), inside) if ", " in inside else inside
                items = [item for item in split_outside(spaced, _SEPARATOR) if item]
                is_set = opening.endswith("{")
                if is_set and (re.search(r"[|:]", inside) or RELATION.search(inside)):
                    return None
                if len(items) > 1 or (is_set and items):
                    return _group(text, opening[-1], closing[-1], items)
                return _read(inside) if opening == "(" and closing == ")" and not _WORD.search(inside) and inside else None
    return None


def _plus_or_minus(text: str) -> forms.Form | None:
    signs = re.findall(r"\\(?:pm|mp)(?![a-zA-Z])", text)
    if not signs or len(signs) > 3:
        return None
    upper = re.sub(r"\\pm(?![a-zA-Z])", "+", re.sub(r"\\mp(?![a-zA-Z])", "-", text))
    lower = re.sub(r"\\pm(?![a-zA-Z])", "-", re.sub(r"\\mp(?![a-zA-Z])", "+", text))
    return _group(text, "", "", [re.sub(r"^\+\s*", "", upper), lower])


def _equation(text: str) -> forms.Form | None:
    sides = split_outside(text, _EQUALS)
    if len(sides) < 2 or not all(sides) or RELATION.search(text):
        return None
    if is_name(sides[0]):
        exact = sides[1] if "\\approx" in text and len(sides) > 2 else sides[-1]
        return forms.Named(source=text, name=re.sub(r"[\s{}]", "", without_text_commands(sides[0])), value=_read(exact))
    if re.search(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])", re.sub(r"\\[a-zA-Z]+", "", without_text_commands(sides[0]))):
        return None  # an equation between variables, not a sum with its result
    return _read(sides[0] if "\\approx" in text else sides[-1])


def _one_variable(text: str) -> forms.Form | None:
    if (found := one_variable_and_its_set(text)) is None:
        return None
    return forms.Named(source=text, name=found[0], value=_read(found[1]))


def is_name(text: str) -> bool:
    r"""Is this what stands left of a value: x, a_n, f(x), (x, y), \text{Area}, AB, \angle ABC, |AB|, f^{-1}(x)?"""
    bare = re.sub(r"\^\s*\{?\s*-\s*1\s*\}?|_\s*(?:\{[^{}]*\}|\w)", "", without_text_commands(text)).strip()
    while (opened := re.sub(r"\([^()]*\)", "", bare)) != bare and opened:
        bare = opened
    return re.fullmatch(r"[a-zA-Z\u4e00-\u9fff\\\s|{},()']+", bare) is not None and re.search(r"[a-zA-Z\u4e00-\u9fff]", bare) is not None


def _range(text: str) -> forms.Form | None:
    bare = without_text_commands(text)
    amount = r"(?:[$€£¥₹]\s*)?\d[\d,]*(?:\.\d+)?"
    found = re.fullmatch(rf"(?:from\s+|between\s+)?({amount})\s*%?(?:\s*-{{1,3}}\s*|\s+to\s+|\s*至\s*|\s*到\s*)({amount}.*)", bare)
    if found is None or (low := read_number(found[1].replace(",", ""))) is None or (high := read_number(found[2].replace(",", ""))) is None:
        return None
    written = re.sub(r"[\d.,]", "", found[2]).strip()
    is_difference = (written and high.unit == forms.NO_UNIT) or "/" in found[2]
    return None if is_difference else forms.Range(source=text, low=low, high=high)


def _ratio(text: str) -> forms.Form | None:
    parts = [part.strip() for part in without_text_commands(text).split(":")]
    numbers = [read_number(part) for part in parts] if len(parts) > 1 else []
    if not numbers or any(number is None or number.unit != forms.NO_UNIT for number in numbers):
        return None
    return forms.Ratio(source=text, parts=tuple(number.value for number in numbers if number is not None))


def _text(text: str) -> forms.Form | None:
    bare = without_text_commands(text).strip()
    bare = re.sub(r"^\((\w+)\)$", r"\1", bare) if re.search("[a-zA-Z]", bare) else bare
    words = [word for word in _WORD.findall(bare) if word not in FUNCTIONS]
    letters_only = re.fullmatch(r"[a-zA-Z\s.'\"&?!/-]*[a-zA-Z][a-zA-Z\s.'\"&?!/-]*", bare) and "/" not in re.sub(r"\w{2,}/\w{2,}", "", bare)
    is_formula = re.fullmatch(r"(?:[A-Z][a-z]?(?:_\{?\d+\}?)?)+(?:\^\{?\d?[+-]\}?)?", bare)
    written_as_text = any(_is_word(word) for group in re.findall(r"\\text\s*\{([^{}]*)\}", text) for word in _WORD.findall(group))
    sentence = any(_is_word(word) and len(word) > 2 for word in words) and not re.search(r"[+*^=<>\\]", bare)
    is_math = bool(words) is False and len(bare.replace(" ", "")) > 1 and re.search(r"[-/!'?]", bare) is not None
    if (
        (letters_only and not is_math)
        or is_formula
        or written_as_text
        or sentence
        or re.search(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]", bare)
    ):
        shortened = re.sub(r"[\s\"{}]|[.!]+$", "", bare)
        return forms.Text(source=text, words=shortened if len(shortened) == 1 else shortened.casefold())
    return None


def _is_word(word: str) -> bool:
    return word.lower() not in FUNCTIONS and re.search("[aeiouyAEIOUY]", word) is not None


def _expression_with_unit(text: str) -> forms.Form | None:
    suffix = _UNIT_BEHIND.search(text)
    if suffix is None or _ANGLE.search(text) or (after := read_unit(text[suffix.start() :], counted=False)) is None or after[1] != 0:
        return None
    body = _expression(text[: suffix.start()].strip())
    return None if _text(body.source) is not None else replace(body, unit=after[0])


def _expression(text: str) -> forms.Expression:
    source = without_text_commands(re.sub(r"^\+\s*|^\$\s*", "", text)).strip()
    source = with_the_smaller_first(source)
    kinds: tuple[tuple[re.Pattern[str], Literal["inequality", "set", "equation"]], ...]
    kinds = ((RELATION, "inequality"), (_SET_OPERATION, "set"), (_EQUALS, "equation"))
    return forms.Expression(source=source, kind=next((kind for sign, kind in kinds if sign.search(source)), "value"))


def _group(text: str, opening: str, closing: str, items: Sequence[str]) -> forms.Group:
    if opening == "":
        read_items = [_read(item) for item in items]
        flat = [part for item in read_items for part in (item.items if isinstance(item, forms.Group) and item.opening == "" else (item,))]
        return forms.Group(source=text, opening="", closing="", items=tuple(flat))
    parts = tuple(_read(item) for item in items)
    if opening == "{":
        parts = tuple(part for item in parts for part in (item.items if isinstance(item, forms.Group) and item.opening == "" else (item,)))
    return forms.Group(source=text, opening=opening, closing=closing, items=parts)


# Each row: what it reads, and how. From top to bottom; the first that knows the text decides.
READERS: tuple[tuple[str, Callable[[str], forms.Form | None]], ...] = (
    ("dates, rows of scores", _date),
    ("times of day", _clock),
    ("an option with its letter", _choice),
    ("matrices, rows of equations", _environment),
    ("what one variable may be", _one_variable),
    ("lists; thousands set apart", _list),
    ("sets, tuples, intervals", _bracketed),
    ("a name with its value, a sum with its result", _equation),
    ("plus or minus: two answers", _plus_or_minus),
    ("digits in a base", _based),
    ("numbers with units, money, percent", read_number),
    ("ranges, scores", _range),
    ("ratios", _ratio),
    ("expressions with units", _expression_with_unit),
    ("letters, words", _text),
    ("expressions", _expression),
)
