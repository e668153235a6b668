"""Deaths are counted for the rows that were inside, survive the process, and lead to being let in alone."""

import os
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

from cgd_ray.generation.suspects import COMPANY_AFTER_ONE_DEATH, InFlight


def make_flight(directory: Path, actor: str = "actor", node: str = "here", lost: str = "") -> InFlight:
    return InFlight(directory, actor, node, is_alive=lambda name: name != lost)


def die_with(directory: Path, inside: list[str], done: list[str], node: str) -> None:
    flight = make_flight(directory, node=node)
    for name in done:
        with flight.entered(name):
            pass
    with ExitStack() as stack:
        for name in inside:
            stack.enter_context(flight.entered(name))
        os._exit(1)


def run_and_die(directory: Path, inside: list[str], done: list[str], node: str = "here") -> None:
    process = get_context("spawn").Process(target=die_with, args=(directory, inside, done, node))
    process.start()
    process.join(60)
    assert process.exitcode == 1


def test_only_what_was_inside_when_the_process_died_has_a_death(tmp_path: Path) -> None:
    run_and_die(tmp_path, inside=["a", "b"], done=["c"])
    flight = make_flight(tmp_path)
    assert [flight.deaths(name) for name in "abcd"] == [1, 1, 0, 0]
    run_and_die(tmp_path, inside=["a"], done=["b"])
    assert flight.deaths("a") == 1  # the second death is known once the actor has begun its next life
    make_flight(tmp_path)
    assert [flight.deaths(name) for name in "ab"] == [2, 1]


def test_other_actors_learn_of_deaths_and_have_none_of_their_own(tmp_path: Path) -> None:
    other = make_flight(tmp_path, "other")
    run_and_die(tmp_path, inside=["a"], done=[])
    make_flight(tmp_path)
    assert other.deaths("a") == 1
    with other.entered("b"):
        pass
    assert make_flight(tmp_path, "other").deaths("b") == 0


def test_a_lost_node_is_no_death_of_the_rows_that_were_on_it(tmp_path: Path) -> None:
    run_and_die(tmp_path, inside=["a"], done=[], node="there")
    assert make_flight(tmp_path, lost="there").deaths("a") == 0


def test_a_death_on_a_living_node_counts_wherever_the_actor_begins_again(tmp_path: Path) -> None:
    run_and_die(tmp_path, inside=["a"], done=[])
    assert make_flight(tmp_path, node="there").deaths("a") == 1


def test_an_actor_that_died_before_it_named_its_node_held_nothing(tmp_path: Path) -> None:
    (tmp_path / "actor.txt").touch()
    assert make_flight(tmp_path).deaths("a") == 0


def test_a_row_is_let_in_with_fewer_others_after_each_death(tmp_path: Path) -> None:
    flight = make_flight(tmp_path)
    (tmp_path / "deaths.txt").write_text("once\ntwice\ntwice\n")
    assert flight.places("never", 128) == 1
    assert flight.places("once", 128) == 128 // COMPANY_AFTER_ONE_DEATH
    assert flight.places("twice", 128) == 128
