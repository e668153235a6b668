"""Deaths are counted for the rows inside, survive the process, and lead to being let in alone; places go first come first served."""

import os
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

from cgd_ray.generation.suspects import COMPANY_AFTER_ONE_DEATH, MOST_DEATHS_IN_A_ROW, Suspects, begin_anew


def make_suspects(directory: Path, actor: str = "actor", node: str = "here", lost: str = "") -> Suspects:
    return Suspects(directory, actor, node, is_alive=lambda name: name != lost)


def die_with(directory: Path, inside: list[str], done: list[str], node: str) -> None:
    suspects = make_suspects(directory, node=node)
    for name in done:
        with suspects.entered(name):
            pass
    with ExitStack() as stack:
        for name in inside:
            stack.enter_context(suspects.entered(name))
        os._exit(1)


def run_and_die(directory: Path, inside: list[str], done: list[str], node: str = "here") -> None:
    process = get_context("spawn").Process(target=die_with, args=(directory, inside, done, node))
    process.start()
    process.join(60)
    assert process.exitcode == 1


def test_only_what_was_inside_when_the_process_died_has_a_death(tmp_path: Path) -> None:
    run_and_die(tmp_path, inside=["a", "b"], done=["c"])
    suspects = make_suspects(tmp_path)
    assert [suspects.deaths(name) for name in "abcd"] == [1, 1, 0, 0]
    run_and_die(tmp_path, inside=["a"], done=["b"])
    assert suspects.deaths("a") == 1  # the second death is known once the actor has begun its next life
    make_suspects(tmp_path)
    assert [suspects.deaths(name) for name in "ab"] == [2, 1]


def test_other_actors_learn_of_deaths_and_have_none_of_their_own(tmp_path: Path) -> None:
    other = make_suspects(tmp_path, "other")
    run_and_die(tmp_path, inside=["a"], done=[])
    make_suspects(tmp_path)
    assert other.deaths("a") == 1
    with other.entered("b"):
        pass
    assert make_suspects(tmp_path, "other").deaths("b") == 0


def test_a_lost_node_is_no_death_of_the_rows_that_were_on_it(tmp_path: Path) -> None:
    run_and_die(tmp_path, inside=["a"], done=[], node="there")
    assert make_suspects(tmp_path, lost="there").deaths("a") == 0


def test_a_death_on_a_living_node_counts_wherever_the_actor_begins_again(tmp_path: Path) -> None:
    run_and_die(tmp_path, inside=["a"], done=[])
    assert make_suspects(tmp_path, node="there").deaths("a") == 1


def test_an_actor_that_died_before_it_named_its_node_held_nothing(tmp_path: Path) -> None:
    (tmp_path / "actor.txt").touch()
    assert make_suspects(tmp_path).deaths("a") == 0


LIVES = ExitStack()
"""Is never left, as by a process that ends."""


def die_saying(directory: Path, words: str, deaths: int) -> None:
    """So many lives of one actor, whose rows are never finished."""
    for _ in range(deaths):
        suspects = make_suspects(directory)
        LIVES.enter_context(suspects.entered("a"))
        suspects.last_words(words)


def test_an_engine_that_dies_again_and_again_before_anything_is_made_is_hopeless(tmp_path: Path) -> None:
    die_saying(tmp_path, "out of\nmemory", deaths=MOST_DEATHS_IN_A_ROW - 1)
    assert make_suspects(tmp_path).hopeless() is None
    die_saying(tmp_path, "CUDA error", deaths=1)
    assert make_suspects(tmp_path).hopeless() == "CUDA error"
    assert make_suspects(tmp_path, "other").hopeless() is None


def test_what_any_engine_of_the_role_makes_in_between_gives_hope(tmp_path: Path) -> None:
    other = make_suspects(tmp_path, "other")
    die_saying(tmp_path, "CUDA error", deaths=MOST_DEATHS_IN_A_ROW)
    other.progressed()
    assert make_suspects(tmp_path).hopeless() is None


def test_a_new_run_does_not_blame_rows_for_engines_that_died_of_none(tmp_path: Path) -> None:
    die_saying(tmp_path, "CUDA error", deaths=3)
    begin_anew(tmp_path)
    assert make_suspects(tmp_path, "new").deaths("a") == 2
    die_saying(tmp_path, "CUDA error", deaths=MOST_DEATHS_IN_A_ROW)
    begin_anew(tmp_path)
    assert make_suspects(tmp_path, "new").deaths("a") == 0
    assert make_suspects(tmp_path, "new").hopeless() is None


def test_a_row_is_let_in_with_fewer_others_after_each_death(tmp_path: Path) -> None:
    suspects = make_suspects(tmp_path)
    (tmp_path / "deaths.txt").write_text("once\ntwice\ntwice\n")
    assert suspects.places("never", 128) == 1
    assert suspects.places("once", 128) == 128 // COMPANY_AFTER_ONE_DEATH
    assert suspects.places("twice", 128) == 128
