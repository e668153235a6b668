"""What takes algebra: math-verify parses and compares, and what are numbers is compared by their value to 60 digits.

Why here and not in rules.py: this imports sympy, takes milliseconds to forever, and so runs in processes that can be killed (grader.py).
How to use: `judge(answer, reference, algebra=equal_by_algebra)`.
"""

import cmath
from fractions import Fraction
from functools import lru_cache
from typing import Any

from latex2sympy2_extended.math_normalization import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Eq, Expr, Float, I, PolynomialError, Rational, cancel
from sympy.core.evalf import PrecisionExhausted

from cgd_ray.grading.equivalence.forms import Form, Number
from cgd_ray.grading.equivalence.numbers import same_number

DIGITS = 60
_SAME_TO = Fraction(1, 10**40)  # relative
# Units are off: math-verify takes the letter behind a number (2t, 5h) for one. They were read before.
_LATEX = [
    LatexExtractionConfig(
        boxed_match_priority=0,
        normalization_config=NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all"),
    )
]


def equal_by_algebra(answer: Form, reference: Form) -> bool:
    """Are the two equal as mathematics? False too where one of them is none."""
    found, wanted = (_rational(form.value) if isinstance(form, Number) else _parsed(form.source) for form in (answer, reference))
    if found is None or wanted is None:
        return False
    first, second = _number(answer, found), _number(reference, wanted)
    if first is not None and second is not None:
        return _same_number(first, second)
    if _differ_at_a_point(found, wanted):
        return False
    if _are_multiples(found, wanted):
        return True
    # Our own limit kills the process, so math-verify's alarm-based one is off.
    return bool(verify(wanted, found, float_rounding=DIGITS, numeric_precision=DIGITS, allow_set_relation_comp=True, timeout_seconds=None))


@lru_cache(maxsize=256)  # a reference is compared with many answers
def _parsed(latex: str) -> Any:
    candidates = parse(f"\\boxed{{{latex}}}", extraction_config=_LATEX, fallback_mode="no_fallback", parsing_timeout=None)
    parsed = candidates[0] if candidates else None
    if not isinstance(parsed, Basic):
        return parsed
    exact = {number: Rational(str(number)) for number in parsed.atoms(Float)}
    return parsed.xreplace({**exact, **{symbol: I for symbol in parsed.free_symbols if str(symbol) == "i"}})


def _rational(value: Fraction) -> Rational:
    return Rational(value.numerator, value.denominator)


def _differ_at_a_point(found: Any, wanted: Any) -> bool:
    """Have the two surely other values where the variables have some? Simplifying, which takes long, can then be left out."""
    if not (isinstance(found, Expr) and isinstance(wanted, Expr)):
        return False
    symbols = sorted(found.free_symbols | wanted.free_symbols, key=str)
    point = {symbol: Rational(1, 3) + Rational(place, 7) for place, symbol in enumerate(symbols, 1)}
    try:
        values = [complex(side.subs(point).evalf(15)) for side in (found, wanted)]
    except (TypeError, ValueError, ArithmeticError):
        return False  # no number there: a limit, an unknown function
    return all(map(cmath.isfinite, values)) and abs(values[0] - values[1]) > 1e-6 * max(map(abs, values))


def _are_multiples(found: Any, wanted: Any) -> bool:
    """Are these two equations one, times a number? Solving them, which takes long, can then be left out."""
    if not (isinstance(found, Eq) and isinstance(wanted, Eq)):
        return False
    try:
        ratio = cancel((found.lhs - found.rhs).doit() / (wanted.lhs - wanted.rhs).doit())
    except (TypeError, PolynomialError, NotImplementedError):
        return False
    return bool(ratio.is_number and ratio.is_finite and ratio.is_nonzero)


def _number(form: Form, parsed: Any) -> Number | None:
    """The value of what has one: exact where it is rational, else to `DIGITS` digits."""
    if isinstance(form, Number):
        return form
    if not isinstance(parsed, Expr) or parsed.free_symbols:
        return None
    value = parsed.doit()
    if not value.is_Rational:
        try:
            value = value.evalf(DIGITS, strict=True)
        except PrecisionExhausted:  # perhaps a zero that was not simplified
            return None
    if value.is_Rational or (value.is_Float and value.is_finite):
        exact = Rational(value)
        return Number(source=form.source, value=Fraction(int(exact.p), int(exact.q)), places=DIGITS if value.is_Float else None)
    return None


def _same_number(first: Number, second: Number) -> bool:
    places = {first.places, second.places}
    if DIGITS in places and places <= {DIGITS, None}:  # an irrational number and another one or an exact one
        return abs(first.value - second.value) <= _SAME_TO * max(abs(first.value), abs(second.value))
    return same_number(first, second)
