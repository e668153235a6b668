r"""One spelling for what can be spelled in many ways: Unicode, LaTeX, spaces, and the words around an answer.

Why: every later rule then has one form to look at (`\frac{1}{2}` for `\dfrac12`, `{1\over2}` and `½`; `-` for `−` and `－`).
How to use: `respell(answer)`. Nothing is evaluated here and no meaning is lost: words stay inside `\text{}`, since a word beside a number
is a unit there and a product of letters elsewhere.
"""

import re
import unicodedata

_DOLLAR = "\ue000"  # stands for \$ while the dollars that only delimit mathematics are taken away
_TEXT_COMMAND = r"\\(?:text(?:bf|it|rm|normal|sf|tt|up)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|boldsymbol|bm|operatorname\*?)\s*(?=\{)"

# Characters that stand for something else. All others are taken in Unicode's compatible form: full-width, circled, mathematical letters.
CHARACTERS = {
    **dict.fromkeys("−﹣‐‑–—", "-"),
    **dict.fromkeys("·⋅∙", r"\cdot "),
    **dict.fromkeys("⁄∕÷", "/"),
    **dict.fromkeys("∘º", "°"),
    **dict.fromkeys("’‘′", "'"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\u2061\u2062\ufeff", ""),
    **{"ℝ": r"\mathbb{R}", "ℕ": r"\mathbb{N}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}"},
    **{"×": r"\times ", "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in "},
    **{"π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "∞": r"\infty ", "∅": r"\emptyset "},
    **{"∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "¢": " cents", "、": ",", "。": "."},
}

# Each row: what it is about, what is found, what it becomes. Applied from top to bottom.
SPELLINGS = (
    ("line breaks are spaces", r"\s+", " "),
    ("bold text in Markdown", r"\*\*", ""),
    ("dollars that are money", r"\\\$", _DOLLAR),
    ("delimiters of mathematics", r"(?<!\\)\\[()\[\]]|\$\$", " "),
    ("thousands set apart", r"(?<=\d)(?:\{,\}|\\,|,\s*\\!\s*|\\!\s*,)\s*(?=\d{3}(?!\d))", ""),
    ("negative spaces", r"\\!", ""),
    ("spaces of all widths", r"(?<!\\)\\(?:[,;:> ]|(?:q?quad|thinspace|enspace)(?![a-zA-Z]))|~", " "),
    ("colours", r"\\(?:text)?color\{[^{}]*\}", ""),
    ("ornaments", r"\\(?:checkmark|blacksquare|square|qed)(?![a-zA-Z])", ""),
    ("underlined", r"\\underline\s*(?=\{)", ""),
    ("one command for text", _TEXT_COMMAND, r"\\text"),
    ("old commands for text", r"\{\s*\\(?:rm|bf|it)\s+([^{}]*)\}", r"\\text{\1}"),
    ("sizes and styles", r"\\(?:displaystyle|textstyle|limits|nolimits|[bB]igg?[lrm]?|left|right)(?![a-zA-Z])(?:\.(?!\d))?", ""),
    ("one command for fractions", r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    ("fractions without braces", r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    ("fractions with braces below", r"\\frac\s*(\d)\s*(?=\{)", r"\\frac{\1}"),
    ("fractions with braces above", r"\\frac\s*\{([^{}]*)\}\s*(\d)", r"\\frac{\1}{\2}"),
    ("fractions by \\over", r"\{\s*([^{}]*?)\s*\\over(?![a-zA-Z])\s*([^{}]*?)\s*\}", r"\\frac{\1}{\2}"),
    ("spaces inside fractions", r"\\frac\s*\{\s*([^{}]*?)\s*\}\s*\{\s*([^{}]*?)\s*\}", r"\\frac{\1}{\2}"),
    ("divided by", r"\\div(?![a-zA-Z])", "/"),
    ("degrees", r"\^\s*\{?\s*(?:\\circ(?![a-zA-Z])|°)\s*\}?|\\degree(?![a-zA-Z])", "°"),
    ("percent", r"\\%", "%"),
    ("at most", r"\\leq(?:slant|q)?(?![a-zA-Z])|<=", r"\\le "),
    ("at least", r"\\geq(?:slant|q)?(?![a-zA-Z])|>=", r"\\ge "),
    ("unequal", r"\\neq(?![a-zA-Z])|!=|\\not\s*=", r"\\ne "),
    ("less", r"\\lt(?![a-zA-Z])", "<"),
    ("more", r"\\gt(?![a-zA-Z])", ">"),
    ("nearly equal", r"\\(?:simeq|approxeq|thickapprox)(?![a-zA-Z])", r"\\approx "),
    ("the empty set", r"\\varnothing(?![a-zA-Z])|\\\{\s*\\\}", r"\\emptyset "),
    ("opening braces by name", r"\\lbrace(?![a-zA-Z])", r"\\{"),
    ("closing braces by name", r"\\rbrace(?![a-zA-Z])", r"\\}"),
    ("a vector's opening angle", r"\\langle(?![a-zA-Z])", "("),
    ("a vector's closing angle", r"\\rangle(?![a-zA-Z])", ")"),
    ("pi without a backslash", r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi "),
    ("infinity without a backslash", r"(?<![a-zA-Z\\])infinity(?![a-zA-Z])", r"\\infty "),
    ("an x that multiplies a power of ten", r"(?<=\d)\s*[xX*]\s*(?=10\s*\^)", r" \\times "),
)
_SPELLINGS = tuple((re.compile(found), becomes) for _, found, becomes in SPELLINGS)

_INTRODUCTION = (
    r"#{1,6}|(?:(?:so|thus|hence|therefore)\b,?\s*)?(?:the\s+|my\s+)?(?:final\s+|correct\s+)?(?:answer|ans\.?|result|solution)\s*(?:is\b\s*:?|:)"
    r"|(?:最终)?(?:答案?|结果)\s*(?:[是为]:?|:|等于)|(?:about|approximately|approx\.|roughly|around)\s|约为?|大约"
)
# What only introduces or ends an answer. Applied until nothing changes.
_AROUND = tuple(
    (re.compile(found, re.IGNORECASE), becomes)
    for found, becomes in (
        (r"^(?:(?:[=,;:]|\\approx(?![a-zA-Z]))\s*)+", ""),
        (r"[\s,;]+$|(?<![.\s])\s*\.$", ""),
        (rf"^(?:{_INTRODUCTION})\s*(?=[^\s.])", ""),
        (rf"^\\text\s*\{{\s*(?:{_INTRODUCTION})\s*", r"\\text{"),
        (r"^\\text\s*\{\s*\}\s*", ""),
    )
)
_SCRIPTS = {"<super>": "^", "<sub>": "_"}
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_DEPTHS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def respell(answer: str) -> str:
    """The answer in the one spelling that the readers know, without words such as "The answer is" and without a full stop at its end."""
    text = _plain_characters(answer)
    for found, becomes in _SPELLINGS:
        text = found.sub(becomes, text)
    if text.count("$") % 2 == 0:  # a single one is money
        text = text.replace("$", " ")
    text, before = text.replace(_DOLLAR, "$").strip(), ""
    while text != before:
        before = text
        for found, becomes in _AROUND:
            text = found.sub(becomes, text).strip()
        for opening in ("{", r"\text{"):
            if is_one_group(text, opening, "}"):
                text = text[len(opening) : -1].strip()
    return text


def without_text_commands(text: str) -> str:
    r"""The same with the content of `\text{}` as if it were written bare."""
    while (opened := _TEXT.sub(r"\1", text)) != text:
        text = opened
    return text


def is_one_group(text: str, opening: str, closing: str) -> bool:
    """Does the text's first bracket close at its very end?"""
    inside = text[len(opening) : -len(closing)]
    return len(text) > len(opening) and text.startswith(opening) and text.endswith(closing) and _never_closes_more_than_it_opens(inside)


def split_outside(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts between separators that stand in no bracket of any kind (an interval's brackets need not match)."""
    parts, depth, begin, position = [], 0, 0, 0
    while position < len(text):
        if depth == 0 and (found := separator.match(text, position)) is not None:
            parts.append(text[begin : found.start()].strip())
            begin = position = found.end()
            continue
        change = 1 if text.startswith("\\begin{", position) else -1 if text.startswith("\\end{", position) else 0
        depth = max(0, depth + _DEPTHS.get(text[position], 0) + change)
        position += 1
    return [*parts, text[begin:].strip()]


def _never_closes_more_than_it_opens(text: str) -> bool:
    depth = 0
    for character in text:
        depth += _DEPTHS.get(character, 0)
        if depth < 0:
            return False
    return depth == 0 and not text.endswith("\\")


def _plain_characters(text: str) -> str:
    if text.isascii():
        return text
    text = "".join(CHARACTERS[character] if character in CHARACTERS else _compatible(character) for character in text)
    text = re.sub(r"√\s*(?:\(([^()]*)\)|(\w+))", lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text)
    return re.sub(r"([\^_])\{([^{}]*)\}(?:\1\{[^{}]*\})+", lambda run: f"{run[1]}{{{''.join(re.findall(r'{([^{}]*)}', run[0]))}}}", text)


def _compatible(character: str) -> str:
    kind = unicodedata.decomposition(character).partition(" ")[0]
    form = unicodedata.normalize("NFKC", character)
    if kind in _SCRIPTS:
        return f"{_SCRIPTS[kind]}{{{form.replace('−', '-')}}}"
    if kind == "<fraction>" and not form.endswith("⁄"):
        above, _, below = form.partition("⁄")
        return rf"\frac{{{above}}}{{{below}}}"
    if kind == "<square>":  # ㎡ and other units in one character
        return rf"\text{{{form}}}"
    return CHARACTERS.get(form, form)
