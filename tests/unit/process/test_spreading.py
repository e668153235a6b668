"""Pieces of work are done once each, in every place with the same results, and these come in the pieces' order."""

import os
import time
from pathlib import Path

import pytest
from ray.exceptions import RayError

from cgd_ray.process.spreading import in_turn, is_worth_spreading, spread


class Squaring:
    """Takes longer over earlier pieces, and says who it is."""

    def __init__(self, slowest_s: float) -> None:
        self._slowest_s = slowest_s

    def __call__(self, number: int) -> tuple[int, int]:
        time.sleep(self._slowest_s / (1 + number))
        return number**2, os.getpid()

    def close(self) -> None:
        self._slowest_s = 0.0


class Failing(Squaring):
    """Cannot do the second piece."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def __call__(self, number: int) -> tuple[int, int]:
        if number == 1:
            raise ValueError("piece 1 cannot be done")
        return super().__call__(number)


class Dying(Squaring):
    """Takes its process along over the second piece, once."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(0.0)
        self._certificate = certificate

    def __call__(self, number: int) -> tuple[int, int]:
        if number == 1 and not self._certificate.exists():
            self._certificate.touch()
            os._exit(1)
        return super().__call__(number)


def test_results_come_in_the_order_of_the_pieces_whoever_is_first(ray_local: None) -> None:
    everywhere = list(spread(Squaring, (0.3,), 3))
    assert [result for result, _ in everywhere] == [result for result, _ in in_turn(Squaring, (0.0,), 3)] == [0, 1, 4]
    assert os.getpid() not in {process for _, process in everywhere}


def test_a_process_that_is_lost_is_replaced_and_its_pieces_are_done_again(tmp_path: Path, ray_local: None) -> None:
    assert [result for result, _ in spread(Dying, (tmp_path / "died",), 5)] == [0, 1, 4, 9, 16]
    assert (tmp_path / "died").exists()


def test_what_a_piece_fails_of_is_told_when_it_is_asked_for() -> None:
    results = in_turn(Failing, (), 2)
    assert next(results)[0] == 0
    with pytest.raises(ValueError, match="piece 1 cannot be done"):
        next(results)


def test_what_fails_elsewhere_says_why(ray_local: None) -> None:
    with pytest.raises(RayError, match="piece 1 cannot be done"):
        list(spread(Failing, (), 2))


def test_few_rows_are_not_worth_other_processes(ray_local: None) -> None:
    assert [is_worth_spreading(num_rows, few=10) for num_rows in (10, 11)] == [False, True]
