"""The world's vocabulary: every kind of step, how a text says it, its right rule, its meaning, and the usual wrong rules.

A problem is a chain: a running quantity v, changed by one step after the other. A kind's sentences come with a *key*, the few words
that a solution quotes before it computes, as in "half: 16/2=8". Imported by problems.py (right rules) and mistakes.py (wrong ones).
"""

from collections.abc import Callable
from dataclasses import dataclass

Computation = tuple[str, int]
"""What is written after the key, as "16/2=8", and the running quantity that results."""
Rule = Callable[[int, int, int], Computation]
"""(v, k, n) -> computation; v the running quantity, k and n the sentence's numbers."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of step."""

    weight: float
    """How often it occurs, relative to the other kinds."""
    numbers: tuple[int, ...]
    """Values that k may take."""
    sentences: tuple[tuple[str, str], ...]
    """(sentence, key) pairs with the fields {he}, {him}, {things}, {other}, {k}, {n}; {other} takes the running quantity over."""
    right: Rule
    wrong: tuple[Rule, ...]
    """The first is the kind's *misconception*: the wrong rule that a student may hold; the others are lapses."""
    meaning: str
    """Half a sentence that corrects the wrong rule; fields {k}, {n}."""
    second_numbers: tuple[int, ...] = (1,)
    """Values that n may take."""


def plus(v: int, k: int) -> Computation:
    """v + k."""
    return f"{v}+{k}={v + k}", v + k


def minus(v: int, k: int) -> Computation:
    """v - k, never below 0 (a flawed chain may ask for it)."""
    return f"{v}-{k}={max(v - k, 0)}", max(v - k, 0)


def times(v: int, k: int) -> Computation:
    """v * k."""
    return f"{v}*{k}={v * k}", v * k


def divide(v: int, k: int) -> Computation:
    """v / k, rounded down (a flawed chain may ask for it)."""
    return f"{v}/{k}={v // k}", v // k


def _each(v: int, k: int, n: int) -> Computation:
    gained, (text, result) = n * k, plus(v, n * k)
    return f"{n}*{k}={gained}, {text}", result


_SMALL = tuple(range(2, 13))

KINDS: dict[str, Kind] = {
    "gain": Kind(
        weight=1.6,
        numbers=_SMALL,
        sentences=(
            ("{he} buys {k} more.", "gets {k}"),
            ("{he} finds {k} {things}.", "gets {k}"),
            ("a friend gives {him} {k} {things}.", "gets {k}"),
            ("{he} wins {k} more {things}.", "gets {k}"),
        ),
        right=lambda v, k, n: plus(v, k),
        wrong=(lambda v, k, n: minus(v, k),),
        meaning="that adds {k}",
    ),
    "loss": Kind(
        weight=1.6,
        numbers=_SMALL,
        sentences=(
            ("{he} loses {k} of them.", "loses {k}"),
            ("{he} sells {k} {things}.", "loses {k}"),
            ("{he} gives {k} away.", "loses {k}"),
            ("{k} of the {things} break.", "loses {k}"),
        ),
        right=lambda v, k, n: minus(v, k),
        wrong=(lambda v, k, n: plus(v, k),),
        meaning="that takes {k} away",
    ),
    "double": Kind(
        weight=0.7,
        numbers=(2,),
        sentences=(("{he} doubles the number of {things}.", "doubles"), ("the number of {things} doubles.", "doubles")),
        right=lambda v, k, n: times(v, 2),
        wrong=(lambda v, k, n: plus(v, 2),),
        meaning="to double is to multiply by 2",
    ),
    "triple": Kind(
        weight=0.6,
        numbers=(3,),
        sentences=(("{he} triples the number of {things}.", "triples"), ("the number of {things} triples.", "triples")),
        right=lambda v, k, n: times(v, 3),
        wrong=(lambda v, k, n: plus(v, 3),),
        meaning="to triple is to multiply by 3",
    ),
    "swap": Kind(
        weight=0.7,
        numbers=(2, 3, 4, 5),
        sentences=(("{he} swaps each one for {k} new {things}.", "each into {k}"), ("each one is cut into {k} {things}.", "each into {k}")),
        right=lambda v, k, n: times(v, k),
        wrong=(lambda v, k, n: plus(v, k),),
        meaning="{k} for each one is to multiply by {k}",
    ),
    "share": Kind(
        weight=1.8,
        numbers=(2, 3, 4, 5),
        sentences=(
            ("{he} shares them among {k} bags and keeps one bag.", "one of {k}"),
            ("{he} splits them into {k} equal piles and keeps one.", "one of {k}"),
        ),
        right=lambda v, k, n: divide(v, k),
        wrong=(lambda v, k, n: minus(v, k),),
        meaning="one of {k} equal parts is to divide by {k}",
    ),
    "direct_more": Kind(
        weight=0.6,
        numbers=_SMALL,
        sentences=(("{other} has {k} more than that.", "{k} more than that"),),
        right=lambda v, k, n: plus(v, k),
        wrong=(lambda v, k, n: minus(v, k),),
        meaning="{k} more than that is to add {k}",
    ),
    "direct_fewer": Kind(
        weight=0.6,
        numbers=_SMALL,
        sentences=(("{other} has {k} fewer than that.", "{k} fewer than that"),),
        right=lambda v, k, n: minus(v, k),
        wrong=(lambda v, k, n: plus(v, k),),
        meaning="{k} fewer than that is to take {k} away",
    ),
    "half": Kind(
        weight=0.7,
        numbers=(2,),
        sentences=(
            ("{he} gives half of them away.", "half"),
            ("half of the {things} get lost.", "half"),
            ("{he} keeps only half.", "half"),
        ),
        right=lambda v, k, n: divide(v, 2),
        wrong=(lambda v, k, n: minus(v, 2), lambda v, k, n: times(v, 2)),
        meaning="half is to divide by 2",
    ),
    "third": Kind(
        weight=1.0,
        numbers=(3,),
        sentences=(("only a third of the {things} is left.", "a third"), ("{he} keeps only a third.", "a third")),
        right=lambda v, k, n: divide(v, 3),
        wrong=(lambda v, k, n: minus(v, 3), lambda v, k, n: times(v, 3)),
        meaning="a third is to divide by 3",
    ),
    "times_as_many": Kind(
        weight=0.55,
        numbers=(2, 3, 4, 5),
        sentences=(("a year later {he} has {k} times as many.", "{k} times"), ("{other} has {k} times as many.", "{k} times")),
        right=lambda v, k, n: times(v, k),
        wrong=(lambda v, k, n: plus(v, k), lambda v, k, n: divide(v, k)),
        meaning="{k} times as many is to multiply by {k}",
    ),
    "dozen": Kind(
        weight=0.35,
        numbers=(1, 2, 3),
        sentences=(("{he} buys {k} dozen more.", "{k} dozen"), ("{he} finds {k} dozen {things}.", "{k} dozen")),
        right=lambda v, k, n: plus(v, 12 * k),
        wrong=(lambda v, k, n: plus(v, 10 * k), lambda v, k, n: plus(v, k)),
        meaning="a dozen is 12",
    ),
    "inverse_more": Kind(
        weight=0.45,
        numbers=_SMALL,
        sentences=(("that is {k} more than {other} has.", "is {k} more"),),
        right=lambda v, k, n: minus(v, k),
        wrong=(lambda v, k, n: plus(v, k),),
        meaning="the other has {k} less",
    ),
    "inverse_fewer": Kind(
        weight=0.45,
        numbers=_SMALL,
        sentences=(("that is {k} fewer than {other} has.", "is {k} fewer"),),
        right=lambda v, k, n: plus(v, k),
        wrong=(lambda v, k, n: minus(v, k),),
        meaning="the other has {k} more",
    ),
    "each": Kind(
        weight=0.5,
        numbers=(2, 3, 4, 5),
        second_numbers=(2, 3, 4, 5),
        sentences=(
            ("{n} friends give {him} {k} {things} each.", "{n} with {k} each"),
            ("{he} buys {n} packs of {k}.", "{n} with {k} each"),
        ),
        right=_each,
        wrong=(lambda v, k, n: plus(v, k), lambda v, k, n: plus(v, n + k)),
        meaning="{n} of {k} make {n}*{k}",
    ),
}
