"""Deaths are counted for the rows that were inside, survive the process, and lead to being let in alone."""

import os
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

from cgd_ray.generation.in_flight import COMPANY_AFTER_ONE_DEATH, InFlight


def die_with(directory: Path, inside: list[str], done: list[str]) -> None:
    flight = InFlight(directory, "actor")
    for name in done:
        with flight.entered(name):
            pass
    with ExitStack() as stack:
        for name in inside:
            stack.enter_context(flight.entered(name))
        os._exit(1)


def run_and_die(directory: Path, inside: list[str], done: list[str]) -> None:
    process = get_context("spawn").Process(target=die_with, args=(directory, inside, done))
    process.start()
    process.join()
    assert process.exitcode == 1


def test_only_what_was_inside_when_the_process_died_has_a_death(tmp_path: Path) -> None:
    run_and_die(tmp_path, inside=["a", "b"], done=["c"])
    flight = InFlight(tmp_path, "actor")
    assert [flight.deaths(name) for name in "abcd"] == [1, 1, 0, 0]
    run_and_die(tmp_path, inside=["a"], done=["b"])
    assert flight.deaths("a") == 1  # the second death is known once the actor has begun its next life
    InFlight(tmp_path, "actor")
    assert [flight.deaths(name) for name in "ab"] == [2, 1]


def test_other_actors_learn_of_deaths_and_have_none_of_their_own(tmp_path: Path) -> None:
    other = InFlight(tmp_path, "other")
    run_and_die(tmp_path, inside=["a"], done=[])
    InFlight(tmp_path, "actor")
    assert other.deaths("a") == 1
    with other.entered("b"):
        pass
    assert InFlight(tmp_path, "other").deaths("b") == 0


def test_a_row_is_let_in_with_fewer_others_after_each_death(tmp_path: Path) -> None:
    flight = InFlight(tmp_path, "actor")
    (tmp_path / "deaths.txt").write_text("once\ntwice\ntwice\n")
    assert flight.places("never", 128) == 1
    assert flight.places("once", 128) == 128 // COMPANY_AFTER_ONE_DEATH
    assert flight.places("twice", 128) == 128
