"""A share is called large, or changed, only where its interval says so."""

import random

import pytest

from cgd_ray.reporting.health.shares import has_fallen, interval, is_above


def test_nothing_to_judge_by_proves_nothing() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    assert not is_above(0, 0, 0.0)
    assert not has_fallen((0, 0), (0, 10), 0.0)


def test_an_interval_is_where_the_share_lies_within_three_of_its_deviations() -> None:
    low, high = interval(20, 100)
    for bound in (low, high):  # Wilson's interval is the solution of this
        assert (0.2 - bound) ** 2 == pytest.approx(9 * bound * (1 - bound) / 100)


def test_one_row_of_32_is_chance_and_three_of_three_are_not() -> None:
    assert not is_above(1, 32, 0.01)
    assert is_above(3, 3, 0.01)


def test_two_windows_of_one_share_never_come_apart_in_2_000_tries() -> None:
    rng = random.Random(0)

    def draw(total: int) -> tuple[int, int]:
        return sum(rng.random() < 0.9 for _ in range(total)), total

    windows = [(draw(64), draw(64)) for _ in range(2_000)]
    assert not any(has_fallen(before, now, 0.05) for before, now in windows)


def test_a_fall_must_be_as_large_as_is_asked_for_too() -> None:
    assert has_fallen((9_900, 10_000), (9_500, 10_000), 0.03)
    assert not has_fallen((9_900, 10_000), (9_500, 10_000), 0.05)
