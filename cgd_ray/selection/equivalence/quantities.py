r"""Reads plain numbers and the units, money and counted things beside them: `2 1/2`, `3e8`, `\$1,000`, `12 \text{ cm}^2`, `5个`, `3 million`.

How to use: `read_number(respelled)`, `read_unit(rest)`; both None where the text is something else.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from cgd_ray.selection.equivalence.forms import NO_UNIT, Number, Unit
from cgd_ray.selection.equivalence.spelling import without_text_commands

MAX_EXPONENT, MAX_DIGITS = 2_000, 2_000  # beyond these a number is left to the algebra, whose memory and time are limited
MAX_UNIT_WORDS = 6

# Measures in all their spellings, the one that stands for the others first. Letters that are cased count as written, words in any case.
MEASURES = """
m meter metre | cm centimeter centimetre | mm millimeter millimetre | km kilometer kilometre | dm decimeter decimetre | in inch inches
ft foot feet | yd yard | mi mile | nm nanometer | μm micrometer micron
g gram gm | kg kilogram kilo | mg milligram | t ton tonne | lb lbs pound | oz ounce
s sec second | min minute | h hr hour | day | week wk | month | year yr | ms millisecond
L l liter litre | mL ml milliliter millilitre | gal gallon | qt quart | pt pint | ha hectare | acre | cc
N newton | J joule | kJ kilojoule | W watt | kW kilowatt | MW megawatt | V volt | A ampere amp | Ω ohm | Hz hertz | Pa pascal | kPa | K kelvin
C °C celsius centigrade | F °F fahrenheit | ° degree deg | rad radian | mol mole | M molar | eV | B byte | kB kilobyte | MB megabyte | GB gigabyte
$ dollar USD buck | € euro EUR | £ GBP sterling | ¥ yen yuan JPY CNY RMB | ₹ rupee INR Rs | cent | ₩ won | ₽ ruble rouble | ₫ | ฿ | ₪ | ₺
米 | 厘米 | 毫米 | 千米 公里 | 分米 | 克 | 千克 公斤 | 吨 | 升 | 毫升 | 秒 | 分钟 分 | 小时 时 | 天 日 | 周 星期 | 月 个月 | 年 | 度
""".replace("\n", "|")
SAME_MEASURES = {"米": "m", "厘米": "cm", "毫米": "mm", "千米": "km", "克": "g", "千克": "kg", "吨": "t", "升": "L", "毫升": "mL", "秒": "s",
                 "分钟": "min", "小时": "h", "天": "day", "周": "week", "月": "month", "年": "year", "度": "°", "元": "¥", "圆": "¥"}  # fmt: skip
SHORT_FOR = {"mph": ("mi", "/h"), "kph": ("km", "/h"), "kmh": ("km", "/h"), "kmph": ("km", "/h"), "rpm": ("revolution", "/min")}
CHINESE_COUNTERS = "个 只 人 名 位 本 支 张 条 块 辆 棵 颗 套 件 种 次 倍 页 头 匹 朵 袋 盒 箱 瓶 杯 双 对 座 根 枚 台 间 组 岁 岁数 元 圆 角 步 层".split()
MULTIPLIERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "百": 2, "千": 3, "万": 4, "亿": 8}

# Words that say more than what was counted: beside these a number is not the whole answer.
NOT_COUNTED = frozenset(
    "and or not no nor to plus minus over remainder mod half halves third thirds fourth fourths quarter quarters fifth fifths sixth sixths "
    "seventh sevenths eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths is are was if for where when with "
    "any all real only except either neither between under above below least most than dozen score pair base choose factorial "
    "sin cos tan cot sec csc log exp sqrt pi infinity".split()
)
_CONNECTING = frozenset(("of", "the", "a", "an", "in", "total", "each", "unit", "units", "point", "points", "integer", "integers"))
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
_RAISED = {"squared": "2", "cubed": "3"}
_MEASURE = {name: line.split()[0] for line in MEASURES.split("|") if line.split() for name in line.split()}
_MEASURE |= {name: same for name, stands in _MEASURE.items() if (same := SAME_MEASURES.get(stands))} | SAME_MEASURES

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
    if (sign := before["sign"] or before["second"]) and before["sign"] and before["second"]:
        return None
    for kind, pattern in _CORES:
        if (found := pattern.match(text, before.end())) is None or (value := _value(kind, found)) is None:
            continue
        rest = text[found.end() :]
        if _NO_REST.match(rest) or (after := read_unit(rest)) is None:
            continue
        unit, exponent = after
        number, places = value
        measures = {_MEASURE.get(money.rstrip("."), money)} if (money := without_text_commands(before["money"] or "").strip()) else set()
        return Number(
            source=text,
            value=(-number if sign == "-" else number) * 10**exponent,
            places=None if places is None else places - exponent,
            unit=Unit(measures=unit.measures | measures, words=unit.words, percent=unit.percent),
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
    while words and words[0].lower() in MULTIPLIERS:
        exponent += MULTIPLIERS[words.pop(0).lower()]
    unit = _unit(words, apart, counted)
    return None if unit is None else (unit, exponent)


def _value(kind: str, found: re.Match[str]) -> tuple[Fraction, int | None] | None:
    if len(found[0]) > MAX_DIGITS:
        return None
    groups = [group for group in found.groups() if group is not None]
    if kind == "mixed":
        whole, above, below = map(int, groups)
        return (whole + Fraction(above, below), None) if above < below else None
    if kind == "fraction":
        above, below = map(Fraction, groups)
        return (above / below, None) if below else None
    if kind == "repeating":
        whole, still, again = found[1] or "0", found[2], found[3]
        return Fraction(int(whole + still + again) - int(whole + still), 10 ** len(still) * (10 ** len(again) - 1)), None
    named = found.groupdict()
    factor = named["factor"] or "1"
    exponent = int((named.get("braced") or named.get("bare") or named.get("exponent") or "0").replace(" ", ""))
    if abs(exponent) > MAX_EXPONENT:
        return None
    places = len(factor.partition(".")[2])
    exact = kind == "power" and "." not in factor or kind == "decimal" and places == 0
    return Fraction(factor) * Fraction(10) ** exponent, None if exact else places - exponent


def _words(text: str) -> Iterator[str]:
    """The words of a unit: letters with their power; "/" for per; an empty word for what is no part of any unit."""
    token = re.compile(r"\s*(?:(?P<per>/|per(?![a-z]))|(?P<han>[\u4e00-\u9fff]+)|(?P<word>[a-zA-ZμΩ°$€£¥₹₩₽₫฿₪₺]+)\.?|(?P<dot>\\cdot|-))\s*")
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
    while text and text[0] in MULTIPLIERS and text not in _MEASURE:
        yield text[0]
        text = text[1:]
    for prefix, raised in (("平方", "^2"), ("立方", "^3")):
        if text.startswith(prefix):
            yield text.removeprefix(prefix) + raised
            return
    if text:
        yield text if text in _MEASURE or text[0] in CHINESE_COUNTERS else ""


def _unit(words: list[str], apart: bool, counted: bool) -> Unit | None:
    measures: set[str] = set()
    names: set[str] = set()
    per = power = ""
    for place, word in enumerate(words):
        name, _, raised = word.partition("^")
        if name == "/":
            per = "/"
        elif name.lower() in _POWERS:
            power = _POWERS[name.lower()]
        elif name.lower() in _RAISED and measures:
            last = next(iter(measures))
            measures = {f"{last}^{_RAISED[name.lower()]}"}
        elif name.lower() in SHORT_FOR:
            measures.update(SHORT_FOR[name.lower()])
        elif (measure := _measure(name, apart)) is not None and not (name.lower() == "in" and place + 1 < len(words)):
            raised = raised or power
            measures.add(per + measure + (f"^{raised}" if raised not in ("", "1") else ""))
            per = power = ""
        elif name.lower() in _CONNECTING:
            power = ""
        elif counted and _is_counted(name, apart):
            names.add(per + _singular(name.lower()))
        else:
            return None
    if measures & {"C", "F"}:
        measures -= {"°"}
    return Unit(measures=frozenset(measures), words=frozenset(names) - {"个", "th"})


def _measure(name: str, apart: bool) -> str | None:
    if len(name) == 1 and name.isascii() and name.isalpha() and not apart:
        return None  # 5m is a product, 5 m is a length
    if name in _MEASURE:
        return _MEASURE[name]
    if len(name) < 3:
        return None
    lower = name.lower()
    return next((_MEASURE[form] for form in (lower, lower.removesuffix("s"), lower.removesuffix("es"), name.removesuffix("s")) if form in _MEASURE), None)


def _is_counted(name: str, apart: bool) -> bool:
    lower = name.lower()
    if not name.isascii():
        return name[0] in CHINESE_COUNTERS
    if lower in ("st", "nd", "rd", "th"):
        return True
    return lower not in NOT_COUNTED and re.search("[aeiouy]", lower) is not None and len(name) >= (3 if apart else 4)


def _singular(word: str) -> str:
    return word.removesuffix("s") if len(word) > 3 else word
