r"""Writes what one variable may be as a set: `x < 3` as `(-\infty,3)`, `x \le 2` or `x > 5` as a union, `\{x : x > 3\}` as an interval.

Why: an answer that names the variable and one that gives the set alone then become the same form, ends and all.
How to use: `one_variable_and_its_set(respelled)`.
"""

import re

from cgd_ray.grading.equivalence.spelling import split_outside

RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|in|subset|subseteq|equiv|mid|cong|sim|parallel|perp)(?![a-zA-Z])")
_SIGN = re.compile(r"<|\\(?:le|ne)(?![a-zA-Z])")
_DOWNWARD = re.compile(r">|\\ge(?![a-zA-Z])")
_OR = re.compile(r",?\s*(?:\\text\s*\{\s*or\s*\}|(?<![a-zA-Z\\])or(?![a-zA-Z])|\\(?:lor|vee)(?![a-zA-Z]))")
_VARIABLE = re.compile(r"(?<![a-zA-Z\\])(?!e(?![a-zA-Z]))[a-zA-Z]")
_MEMBER = re.compile(r"([a-zA-Z])\s*\\in(?![a-zA-Z])\s*(.+)")
_SET_BUILDER = re.compile(r"\\\{\s*([a-zA-Z])\s*(?:\\in\s*\\mathbb\{R\})?\s*(?:\||:|\\(?:mid|vert)(?![a-zA-Z]))(.+)\\\}")


def one_variable_and_its_set(text: str) -> tuple[str, str] | None:
    r"""The variable and the LaTeX of its set; None where the text is anything else than x \in A or inequalities with plain ends."""
    if builder := _SET_BUILDER.fullmatch(text):
        inner = one_variable_and_its_set(builder[2].strip())
        return inner if inner is not None and inner[0] == builder[1] else None
    if member := _MEMBER.fullmatch(text):
        return member[1], member[2]
    alternatives = split_outside(text, _OR) if RELATION.search(text) else []
    intervals = [found for part in alternatives if (found := _interval(part)) is not None]
    names = {name for name, _ in intervals}
    if len(names) != 1 or len(intervals) != len(alternatives):
        return None
    return names.pop(), r" \cup ".join(sorted(interval for _, interval in intervals))


def with_the_smaller_first(text: str) -> str:
    """A chain of "more than" turned round: 3 > x is x < 3."""
    signs = _DOWNWARD.findall(text)
    sides = split_outside(text, _DOWNWARD)
    if not signs or len(RELATION.findall(text)) != len(signs) or len(sides) != len(signs) + 1:
        return text
    turned = ["<" if sign == ">" else r"\le " for sign in reversed(signs)]
    return "".join(side + sign for side, sign in zip(reversed(sides), [*turned, ""], strict=True))


def _interval(inequality: str) -> tuple[str, str] | None:
    text = with_the_smaller_first(inequality)
    signs = _SIGN.findall(text)
    sides = split_outside(text, _SIGN)
    variables = [place for place, side in enumerate(sides) if re.fullmatch("[a-zA-Z]", side)]
    if len(sides) not in (2, 3) or len(sides) != len(signs) + 1 or len(RELATION.findall(text)) != len(signs) or len(variables) != 1:
        return None
    (place,) = variables
    ends = sides[:place] + sides[place + 1 :]
    if any(_VARIABLE.search(end) for end in ends) or (len(sides) == 3 and (place != 1 or r"\ne" in signs)):
        return None
    if signs == [r"\ne"]:
        return sides[place], rf"(-\infty,{ends[0]})\cup({ends[0]},\infty)"
    low = ("(" if signs[place - 1] == "<" else "[") + sides[place - 1] if place else r"(-\infty"
    high = sides[place + 1] + (")" if signs[place] == "<" else "]") if place + 1 < len(sides) else r"\infty)"
    return sides[place], f"{low},{high}"
