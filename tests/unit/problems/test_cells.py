r"""What a column holds becomes the text that people write, or null where nothing is there; what is neither is refused."""

import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgd_ray.problems.cells import answer_text, text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.000015, "0.000015"),
        (1.25e-05, "0.0000125"),
        (-1e-7, "-0.0000001"),
        (1e20, "100000000000000000000"),
        (1e23, "100000000000000000000000"),
        (0.1 + 0.2, "0.3"),
        (1.1 * 3, "3.3"),
        (1 / 3, "0.3333333333333333"),
        (math.pi, "3.141592653589793"),
        (1000000000000001.0, "1000000000000001"),
        (9007199254740991.0, "9007199254740991"),
        (27.0, "27"),
        (0.0, "0"),
        (-0.0, "0"),
        (100, "100"),
        (10**400, "1" + "0" * 400),
        (True, "True"),
        (Decimal("2.50"), "2.5"),
        (Decimal("1E-9"), "0.000000001"),
        (Decimal("12345678901234567890123456789012345.67"), "12345678901234567890123456789012345.67"),
        (date(2026, 11, 30), "2026-11-30"),
        (datetime(2026, 11, 30), "2026-11-30"),
        (datetime(2026, 11, 30, 12, 5), "2026-11-30 12:05:00"),
        ("1.50", "1.50"),
        (" None of these ", " None of these "),
    ],
)
def test_what_a_column_holds_is_written_as_people_write_it(value: Any, expected: str) -> None:
    assert answer_text(value) == text(value) == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_without_an_exponent_and_stays_the_same_but_for_rounding(value: float) -> None:
    written = text(value)
    assert written is not None
    assert not set(written) - set("-.0123456789")
    assert math.isclose(float(written), value, rel_tol=1e-15, abs_tol=4 * math.ulp(0.0))


@pytest.mark.parametrize(
    "value", [None, math.nan, Decimal("NaN"), "", " \t\n", "nan", "NaN", "N/A", "None", "null", "<NA>", [], [None, ""]]
)
def test_where_nothing_is_there_is_no_answer(value: Any) -> None:
    assert answer_text(value) is None


def test_a_list_of_one_answer_is_that_answer() -> None:
    assert [answer_text(value) for value in (["2"], [2.0], [["\\frac{1}{2}"]], ["4", "4"], ["5", None], ("$7$",))] == [
        *("2", "2", "\\frac{1}{2}", "4", "5", "$7$")
    ]


def test_several_answers_are_a_set_or_refused() -> None:
    assert answer_text(["1", "$2$", 1.5e-05], several="set") == "\\{1, 2, 0.000015\\}"
    with pytest.raises(ValueError, match=r"^a list of 2 answers, \['1', '2'\] \(with list_answers set they are one together\)$"):
        answer_text(["1", "2"])


@pytest.mark.parametrize("value", [{"value": "2"}, b"2", math.inf, -math.inf, [{"a": 1}], {"deep": "x" * 10_000}])
def test_what_is_no_text_and_no_number_is_refused_in_a_few_words(value: Any) -> None:
    with pytest.raises(ValueError, match=r"neither a text nor a number|no number that an answer can be compared with") as refused:
        answer_text(value)
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)
