"""How many engines a pool is to have: grown as far as its backlog asks, given back after an idle time as long as a start."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from cgd_ray.generation.pools.elasticity import PoolWatch, _change

CALLS = 8
"""That an actor may hold; from half of them on the pool grows."""


@dataclass(kw_only=True)
class Pool:
    """Counts of a pool of Ray's, as its interface tells them."""

    smallest: int = 1
    largest: int = 8
    running: int = 1
    active: int = 0
    restarting: int = 0
    pending: list[object] = field(default_factory=list)
    calls: int = 0

    def current_size(self) -> int:
        return self.running + len(self.pending)

    def min_size(self) -> int:
        return self.smallest

    def max_size(self) -> int:
        return self.largest

    def max_actor_concurrency(self) -> int:
        return CALLS

    def num_running_actors(self) -> int:
        return self.running

    def num_active_actors(self) -> int:
        return self.active

    def num_restarting_actors(self) -> int:
        return self.restarting

    def num_tasks_in_flight(self) -> int:
        return self.calls

    def get_pending_actor_refs(self) -> list[object]:
        return self.pending


@dataclass(kw_only=True)
class Stage:
    """An operator and its state in one."""

    waiting: int = 0
    _inputs_complete: bool = False
    completed: bool = False

    def has_completed(self) -> bool:
        return self.completed

    def total_enqueued_input_blocks(self) -> int:
        return self.waiting


def change(pool: Pool, stage: Stage | None = None, surplus: int = 0, lacking: int = 0) -> int:
    there, watch = cast("Any", stage or Stage()), PoolWatch()
    watch.surplus, watch.lacking = surplus, lacking
    return _change(there, there, cast("Any", pool), watch)


def look(watch: PoolWatch, pool: Pool, now: float) -> PoolWatch:
    watch.look(cast("Any", pool), now)
    return watch


def started(pool: Pool, *starts_s: float) -> PoolWatch:
    """A watch that has seen actors start that took so long, the first at 0."""
    watch, now = PoolWatch(), 0.0
    for took_s in starts_s:
        pool.pending = [object()]
        look(watch, pool, now)
        pool.pending = []
        now += took_s
        look(watch, pool, now)
    return watch


def watched(pool: Pool, seconds: float, start_s: float = 10.0) -> PoolWatch:
    """A watch that has seen a start, and then the pool as it is for so long."""
    watch = started(Pool(running=pool.running), start_s)
    for tenth in range(int(10 * seconds) + 1):
        look(watch, pool, start_s + tenth / 10)
    return watch


@pytest.mark.parametrize(
    ("pool", "lacking"),
    [
        (Pool(running=1, calls=3), 0),  # it has less than half of the calls that it may hold
        (Pool(running=1, calls=4), 1),  # two fill an actor's places
        (Pool(running=1, calls=8), 3),
        (Pool(running=2, calls=16), 6),
        (Pool(running=1, calls=8, pending=[1, 2, 3]), 0),  # those to come count
    ],
)
def test_more_work_than_places_asks_for_actors_once_it_has_lasted_as_long_as_a_start(pool: Pool, lacking: int) -> None:
    assert watched(pool, 9.9).lacking == 0
    watch = watched(pool, 10.1)
    assert (watch.lacking, watch.surplus) == (lacking, 0)


@pytest.mark.parametrize(
    ("running", "calls", "surplus"),
    [(4, 8, 0), (4, 7, 0), (4, 6, 1), (4, 4, 2), (4, 1, 3), (1, 1, 0)],  # two calls fill an actor's places
)
def test_actors_for_which_there_is_no_work_are_too_many_though_all_have_some(running: int, calls: int, surplus: int) -> None:
    pool = Pool(running=running, active=min(running, calls), calls=calls)
    assert watched(pool, 9.9).surplus == 0
    assert watched(pool, 10.1).surplus == surplus


def test_what_comes_in_waves_shorter_than_a_start_is_averaged() -> None:
    watch = started(Pool(running=4), 10.0)
    for tenth in range(1, 400):
        look(watch, Pool(running=4, calls=12 if tenth % 10 < 5 else 0), 10 + tenth / 10)
    assert (watch.surplus, watch.lacking) == (1, 0)  # six calls are work for three


def test_the_shortest_start_is_what_a_start_takes_and_before_one_has_been_seen_nothing_is_decided() -> None:
    pool, watch = Pool(running=4, calls=1), PoolWatch()
    for now in (0.0, 1e9):
        assert look(watch, pool, now).surplus == 0
    watch = started(Pool(running=4), 300.0, 10.0, 50.0)
    look(watch, pool, 1000.0)
    assert look(watch, pool, 1009.0).surplus == 0
    assert look(watch, pool, 1011.0).surplus == 3


@pytest.mark.parametrize(
    ("pool", "stage", "lacking", "wanted"),
    [
        (Pool(running=2), Stage(waiting=9), 3, 3),
        (Pool(running=2), Stage(waiting=90), 30, 6),  # no more than the largest
        (Pool(running=0, smallest=2), Stage(), 0, 2),
        (Pool(running=3, active=2), Stage(waiting=0, _inputs_complete=True), 0, -3),  # Ray ends those without a row
        (Pool(running=3, active=2), Stage(waiting=1, _inputs_complete=True), 0, 0),
        (Pool(running=3), Stage(waiting=1, completed=True), 0, -3),
    ],
)
def test_a_pool_stays_between_its_sizes_and_ends_with_its_rows(pool: Pool, stage: Stage, lacking: int, wanted: int) -> None:
    assert change(pool, stage, lacking=lacking) == wanted


def test_a_surplus_is_given_back_down_to_the_fewest() -> None:
    assert change(Pool(running=5, smallest=1), surplus=3) == -3
    assert change(Pool(running=5, smallest=4), surplus=3) == -1
    assert change(Pool(running=4, smallest=4), surplus=4) == 0


def test_an_actor_that_is_ended_on_its_way_is_no_start() -> None:
    pool = Pool(running=4)
    watch = started(pool, 10.0)
    pool.pending, pool.calls = [object()], 1
    look(watch, pool, 11.0)
    pool.pending = []
    watch.note_pending(cast("Any", pool), 11.1)
    assert look(watch, pool, 19.0).surplus == 0
