r"""Reads plain numbers with the units, money and counted things beside them: `2 1/2`, `3e8`, `\$100`, `12\text{ cm}^2`, `5个`, `3 million`.

How to use: `read_number(respelled)`, `read_unit(rest)`; both None where the text is something else.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from cgd_ray.grading.equivalence import vocabulary
from cgd_ray.grading.equivalence.forms import NO_UNIT, Number, Unit
from cgd_ray.grading.equivalence.spelling import without_text_commands

MAX_EXPONENT, MAX_DIGITS = 2_000, 2_000  # beyond these a number is left to the algebra, whose memory and time are limited
MAX_UNIT_WORDS = 6

_MONEY = r"(?:[$€£¥₹₩₽₫฿₪₺]|(?:USD|EUR|GBP|CNY|RMB|INR|Rs\.?)(?![a-zA-Z]))"
_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_BEFORE = re.compile(rf"(?P<sign>[+-]?)\s*(?P<money>\\text\s*\{{\s*{_MONEY}\s*\}}|{_MONEY})?\s*(?P<second>[+-]?)\s*")
_POWER_OF_TEN = r"10\s*\^\s*(?:\{\s*(?P<%s>[+-]?\s*\d+)\s*\}|(?P<%s>[+-]?\d+))"
_CORES = tuple(
    (name, re.compile(core))
    for name, core in (
        ("mixed", r"(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}|(\d+)\s+(\d+)\s*/\s*(\d+)(?!\d)"),
        ("fraction", rf"\\frac\{{([+-]?{_DECIMAL})\}}\{{([+-]?{_DECIMAL})\}}|({_DECIMAL})\s*/\s*({_DECIMAL})(?![\d.])"),
        ("repeating", r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}"),
        ("power", rf"(?:(?P<factor>{_DECIMAL})\s*\\(?:times|cdot)\s*)?{_POWER_OF_TEN % ('braced', 'bare')}"),
        ("scientific", rf"(?P<factor>{_DECIMAL})[eE](?P<exponent>[+-]?\d+)"),
        ("decimal", rf"(?P<factor>{_DECIMAL})"),
    )
)
_FRACTION_OF_UNITS = re.compile(r"\\frac\{([a-zA-Z^\d ]+)\}\{([a-zA-Z^\d ]+)\}")
_NO_REST = re.compile(r"\s*[\d.^_!]|\s*\\(?!text|frac\{\s*(?:\\text|[a-zA-Z]))")


def read_number(text: str) -> Number | None:
    """The number that the text is, with its unit; None when it is anything else."""
    before = _BEFORE.match(text)
    assert before is not None  # it matches the empty text
    if before["sign"] and before["second"]:
        return None
    for kind, pattern in _CORES:
        found = pattern.match(text, before.end())
        value = _value(kind, found) if found else None
        if found is None or value is None or _NO_REST.match(rest := text[found.end() :]) or (after := read_unit(rest)) is None:
            continue
        (number, places), (unit, exponent) = value, after
        money = without_text_commands(before["money"] or "").strip().rstrip(".")
        return Number(
            source=text,
            value=(-number if "-" in (before["sign"], before["second"]) else number) * 10**exponent,
            places=None if places is None else places - exponent,
            unit=replace(unit, measures=unit.measures | {vocabulary.MEASURES[money]}) if money else unit,
        )
    return None


def read_unit(rest: str, counted: bool = True) -> tuple[Unit, int] | None:
    """What stands behind a number, and the power of ten that its first words mean; None when it is no unit.

    Things that were counted may be any words; without `counted` only units of measure and money are taken.
    """
    bare = _FRACTION_OF_UNITS.sub(r"\1/\2", without_text_commands(rest)).strip().strip(".").strip()
    if not bare:
        return NO_UNIT, 0
    if re.fullmatch(r"%|percent|per cent|pct|percentage|百分之", bare, re.IGNORECASE):
        return Unit(percent=True), 0
    apart = rest[:1].isspace() or rest.lstrip().startswith(("\\text", "("))
    if bare.startswith("(") and bare.endswith(")"):
        bare = bare[1:-1].strip()
    words = list(_words(bare))
    if not words or len(words) > MAX_UNIT_WORDS or "" in words:
        return None
    exponent = 0
    while words and words[0].lower() in vocabulary.MULTIPLIERS:
        exponent += vocabulary.MULTIPLIERS[words.pop(0).lower()]
    unit = _unit(words, apart, counted)
    return None if unit is None else (unit, exponent)


def _value(kind: str, found: re.Match[str]) -> tuple[Fraction, int | None] | None:
    if len(found[0]) > MAX_DIGITS:
        return None
    groups = [group for group in found.groups() if group is not None]
    if kind == "mixed":
        whole, above, below = map(Fraction, groups)
        return (whole + above / below, None) if above < below else None
    if kind == "fraction":
        numerator, denominator = map(Fraction, groups)
        return (numerator / denominator, None) if denominator else None
    if kind == "repeating":
        whole_digits, still, again = found[1] or "0", found[2], found[3]
        difference = int(whole_digits + still + again) - int(whole_digits + still)
        return Fraction(difference, 10 ** len(still) * (10 ** len(again) - 1)), None
    named = found.groupdict()
    factor = named["factor"] or "1"
    exponent = int((named.get("braced") or named.get("bare") or named.get("exponent") or "0").replace(" ", ""))
    if abs(exponent) > MAX_EXPONENT:
        return None
    places = len(factor.partition(".")[2])
    exact = (kind == "power" and "." not in factor) or (kind == "decimal" and places == 0)
    return Fraction(factor) * Fraction(10) ** exponent, None if exact else places - exponent


def _words(text: str) -> Iterator[str]:
    """The words of a unit: letters with their power; "/" for per; an empty word for what is no part of any unit."""
    token = re.compile(
        r"\s*(?:(?P<per>/|per(?![a-z]))|(?P<han>[\u4e00-\u9fff]+)|(?P<word>[a-zA-ZμΩ°$€£¥₹₩₽₫฿₪₺]+)\.?|(?P<dot>\\cdot|-))\s*"
    )
    power = re.compile(r"\s*\^\s*\{?\s*(-?\d+)\s*\}?|(?<=[mt])([23])(?![\d])")
    position = 0
    while position < len(text):
        if (found := token.match(text, position)) is None:
            yield ""
            return
        position = found.end()
        if found["han"]:
            yield from _han_words(found["han"])
        elif found["per"]:
            yield "/"
        elif found["word"]:
            raised = power.match(text, position)
            position = raised.end() if raised else position
            yield found["word"] + (f"^{raised[1] or raised[2]}" if raised else "")


def _han_words(text: str) -> Iterator[str]:
    while text and text[0] in vocabulary.MULTIPLIERS and text not in vocabulary.MEASURES:
        yield text[0]
        text = text[1:]
    for prefix, raised in (("平方", "^2"), ("立方", "^3")):
        if text.startswith(prefix):
            yield text.removeprefix(prefix) + raised
            return
    if text:
        yield text if text in vocabulary.MEASURES or text[0] in vocabulary.CHINESE_COUNTERS else ""


def _unit(words: list[str], apart: bool, counted: bool) -> Unit | None:
    measures: set[str] = set()
    names: set[str] = set()
    per = power = ""
    for place, word in enumerate(words):
        name, _, raised = word.partition("^")
        if name == "/":
            per = "/"
        elif name.lower() in vocabulary.POWERS:
            power = vocabulary.POWERS[name.lower()]
        elif name.lower() in vocabulary.RAISED and measures:
            last = next(iter(measures))
            measures = {f"{last}^{vocabulary.RAISED[name.lower()]}"}
        elif name.lower() in vocabulary.COMPOUNDS:
            measures.update(vocabulary.COMPOUNDS[name.lower()])
        elif (measure := _measure(name, apart)) is not None and not (name.lower() == "in" and place + 1 < len(words)):
            raised = raised or power
            measures.add(per + measure + (f"^{raised}" if raised not in ("", "1") else ""))
            per = power = ""
        elif name.lower() in vocabulary.CONNECTING:
            power = ""
        elif counted and _is_counted(name, apart):
            names.add(per + _singular(name.lower()))
        else:
            return None
    if measures & {"C", "F"}:
        measures -= {"°"}
    return Unit(measures=frozenset(measures), words=frozenset(names) - {"个"} - vocabulary.ORDINALS)


def _measure(name: str, apart: bool) -> str | None:
    if len(name) == 1 and name.isascii() and name.isalpha() and not apart:
        return None  # 5m is a product, 5 m is a length
    if name in vocabulary.MEASURES:
        return vocabulary.MEASURES[name]
    if len(name) < 3:
        return None
    lower = name.lower()
    return next(
        (
            vocabulary.MEASURES[form]
            for form in (lower, lower.removesuffix("s"), lower.removesuffix("es"), name.removesuffix("s"))
            if form in vocabulary.MEASURES
        ),
        None,
    )


def _is_counted(name: str, apart: bool) -> bool:
    lower = name.lower()
    if not name.isascii():
        return name[0] in vocabulary.CHINESE_COUNTERS
    if lower in vocabulary.ORDINALS:
        return True
    return lower not in vocabulary.NOT_COUNTED and re.search("[aeiouy]", lower) is not None and len(name) >= (3 if apart else 4)


def _singular(word: str) -> str:
    return word.removesuffix("s") if len(word) > 3 else word
