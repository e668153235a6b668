"""How long a try waits for the one before it."""

from email.utils import formatdate

import pytest

from cgd_ray.engines.api.retrying import retry_after_s, retry_delay_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        (formatdate(1_700_000_090, usegmt=True), 90.0),
        (formatdate(1_600_000_000, usegmt=True), 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now=1_700_000_000) == seconds


def test_delays_double_up_to_a_limit_and_are_never_shorter_than_the_endpoint_asks() -> None:
    assert [retry_delay_s(tries, None, chance=0.0) for tries in (1, 2, 3, 9, 10_000)] == [0.25, 0.5, 1.0, 30.0, 30.0]
    assert [retry_delay_s(tries, None, chance=1.0) for tries in (1, 2, 3, 9, 10_000)] == [0.5, 1.0, 2.0, 60.0, 60.0]
    assert [retry_delay_s(1, 20.0, chance) for chance in (0.0, 1.0)] == [20.25, 20.5]
