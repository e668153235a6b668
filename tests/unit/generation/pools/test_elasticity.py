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


def change(pool: Pool, stage: Stage | None = None, surplus: int = 0) -> int:
    there = cast("Any", stage or Stage())
    return _change(there, there, cast("Any", pool), surplus)


def started(pool: Pool, *starts_s: float) -> PoolWatch:
    """A watch that has seen actors start that took so long, the first at 0."""
    watch, now = PoolWatch(), 0.0
    for took_s in starts_s:
        pool.pending = [object()]
        watch.surplus(cast("Any", pool), now)
        pool.pending = []
        now += took_s
        watch.surplus(cast("Any", pool), now)
    return watch


@pytest.mark.parametrize(
    ("pool", "stage", "wanted"),
    [
        (Pool(running=1, calls=3), Stage(waiting=9), 0),  # it has less than half of the calls that it may hold
        (Pool(running=1, calls=4), Stage(waiting=0), 0),  # these are work for one
        (Pool(running=1, calls=8), Stage(waiting=0), 1),
        (Pool(running=1, calls=8), Stage(waiting=8), 3),
        (Pool(running=2, calls=16), Stage(waiting=90), 6),  # no more than the largest
        (Pool(running=1, calls=8, pending=[1, 2, 3]), Stage(waiting=8), 0),  # those to come count
        (Pool(running=0, smallest=2), Stage(), 2),
        (Pool(running=3, calls=2, active=2), Stage(waiting=0, _inputs_complete=True), -3),  # Ray ends those without a row
        (Pool(running=3, calls=2, active=2), Stage(waiting=1, _inputs_complete=True), 0),
        (Pool(running=3), Stage(waiting=1, completed=True), -3),
    ],
)
def test_a_pool_grows_as_far_as_its_backlog_asks_and_ends_with_its_rows(pool: Pool, stage: Stage, wanted: int) -> None:
    assert change(pool, stage) == wanted


def test_a_surplus_is_given_back_down_to_the_fewest() -> None:
    assert change(Pool(running=5, smallest=1), surplus=3) == -3
    assert change(Pool(running=5, smallest=4), surplus=3) == -1
    assert change(Pool(running=4, smallest=4), surplus=4) == 0


def test_idle_for_as_long_as_a_start_is_a_surplus() -> None:
    pool = Pool(running=4, active=4)
    watch = started(pool, 10.0)
    assert watch.surplus(cast("Any", pool), 10.0) == 0
    pool.active = 2
    assert watch.surplus(cast("Any", pool), 20.0) == 0
    pool.active = 1
    assert watch.surplus(cast("Any", pool), 25.0) == 0
    assert watch.surplus(cast("Any", pool), 30.0) == 2
    assert watch.surplus(cast("Any", pool), 35.0) == 3
    pool.active = 3  # there is work again
    assert watch.surplus(cast("Any", pool), 36.0) == 1
    pool.active = 0
    assert watch.surplus(cast("Any", pool), 40.0) == 1


def test_the_shortest_start_is_what_a_start_takes_and_before_one_has_been_seen_nothing_is_given_back() -> None:
    pool = Pool(running=4)
    assert PoolWatch().surplus(cast("Any", pool), 1e9) == 0
    pool.active = 4
    watch = started(pool, 300.0, 10.0, 50.0)
    pool.active = 3
    assert watch.surplus(cast("Any", pool), 1000.0) == 0
    assert watch.surplus(cast("Any", pool), 1010.0) == 1


def test_an_actor_that_starts_again_is_not_idle() -> None:
    pool = Pool(running=2, active=1)
    watch = started(pool, 10.0)
    pool.restarting = 1
    assert watch.surplus(cast("Any", pool), 100.0) == 0
