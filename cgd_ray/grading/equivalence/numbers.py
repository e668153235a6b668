"""When two numbers are equal: exact ones exactly, a decimal also where it is the other one rounded to at least six digits.

Why: an absolute tolerance makes 0.0000001 equal 0.0000002, a relative one makes 9999999999999999 equal 10^16. What is written with
enough digits to be told from its neighbours is compared by these digits.
"""

import math
from fractions import Fraction

from cgd_ray.grading.equivalence.forms import Number

MIN_ROUNDED_DIGITS = 6  # 0.333333 is 1/3, 0.33333 is not
NOISE = Fraction(1, 10**12)  # relative; what sums of doubles leave behind: 0.30000000000000004


def same_number(first: Number, second: Number) -> bool:
    """Are these the same, as far as their digits tell?"""
    if first.value == second.value:
        return True
    if first.places is None and second.places is None:
        return False
    whole = first.value.denominator == second.value.denominator == 1
    if not whole and abs(first.value - second.value) <= NOISE * max(abs(first.value), abs(second.value)):
        return True
    shorter, longer = sorted((first, second), key=_places)
    return _places(shorter) < math.inf and _is_rounded(shorter, longer.value)


def _places(number: Number) -> float:
    """Places behind the point; without end for a fraction that has no last one, 0 for a whole number."""
    if number.places is not None:
        return number.places
    rest = number.value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return math.inf if rest > 1 else 0


def _is_rounded(decimal: Number, value: Fraction) -> bool:
    """Is the decimal the value rounded, or cut, to its places?"""
    places = decimal.places
    if places is None or places < MIN_ROUNDED_DIGITS or (decimal.value > 0) != (value > 0):
        return False
    digits = int(abs(decimal.value) * 10**places)
    exact = abs(value) * 10**places
    return digits >= 10 ** (MIN_ROUNDED_DIGITS - 1) and digits in (math.floor(exact), math.floor(exact + Fraction(1, 2)))
