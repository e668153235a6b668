"""Of two drivers on one object store exactly one goes on, whatever each of them believes."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest

from cgd_ray.process.faults import RefusedError
from cgd_ray.runs.lease import Holder
from cgd_ray.runs.remote.leasing import NAME, Lease, LostError
from cgd_ray.runs.remote.objects import Objects

HEARTBEAT_S = 0.1
ELSEWHERE = replace(Holder.here(), host="elsewhere", boot="another", pid=1)


def quiet(line: str) -> None:
    pass


def take(store: Objects, take_over: bool = False) -> Lease:
    return Lease.take(store, quiet, take_over, heartbeat_s=HEARTBEAT_S)


def held_elsewhere(store: Objects, released: bool = False) -> Lease:
    """The lease of a process on another machine."""
    lease = Lease(store, 7, {}, _holder=replace(ELSEWHERE, released=released))
    lease.tag = store.create(NAME, lease._content(released))
    return lease


@pytest.fixture
def living(store: Objects) -> Iterator[Lease]:
    """One whose holder shows that it lives until it loses it."""
    lease, ended = held_elsewhere(store), threading.Event()

    def live() -> None:
        while not ended.wait(HEARTBEAT_S):
            try:
                lease.show_life()
            except LostError:
                return

    thread = threading.Thread(target=live)
    thread.start()
    yield lease
    ended.set()
    thread.join()


def test_the_first_is_given_and_the_next_one_counts_on(store: Objects) -> None:
    lease = take(store)
    assert lease.number == 1
    lease.show_life()
    lease.release()
    assert take(store).number == 2


def test_a_living_process_of_this_machine_keeps_it(store: Objects) -> None:
    take(store)
    with pytest.raises(RefusedError, match=r"^run_dir s3://.* is held by process \d+ on .*, which is alive; wait .*--take-over"):
        take(store)


def test_one_of_another_machine_keeps_it_while_it_shows_life(store: Objects, living: Lease) -> None:
    with pytest.raises(RefusedError, match=r" is held by process 1 on elsewhere, which is alive"):
        take(store)


def test_one_that_shows_none_has_lost_it(store: Objects) -> None:
    former = held_elsewhere(store)
    started = time.monotonic()
    assert take(store).number == 8
    assert time.monotonic() - started > 5 * HEARTBEAT_S
    with pytest.raises(LostError, match=r"^run_dir s3://.* was taken over by process \d+ on .*; this driver ends and writes no more$"):
        former.show_life()


def test_it_is_taken_over_from_a_living_one_where_that_is_asked_for(store: Objects, living: Lease) -> None:
    lease = take(store, take_over=True)
    assert lease.number == 8
    for _ in range(5):
        time.sleep(HEARTBEAT_S)
        lease.show_life()
    with pytest.raises(LostError):
        living.release()


def test_one_that_was_released_is_free_at_once(store: Objects) -> None:
    held_elsewhere(store, released=True)
    started = time.monotonic()
    assert take(store).number == 8
    assert time.monotonic() - started < 3 * HEARTBEAT_S


def test_an_answer_that_was_lost_on_its_way_is_no_loss_of_the_lease(store: Objects) -> None:
    lease = take(store)
    before = lease.tag
    lease.show_life()
    lease.tag = before  # as if the store had not answered
    lease.show_life()
    found = store.read(NAME)
    assert found is not None
    assert found[1] == lease.tag != before


def test_of_ten_at_once_one_becomes_the_holder(store: Objects) -> None:
    held_elsewhere(store, released=True)
    won: list[int] = []

    def try_it() -> None:
        try:
            won.append(take(store).number)
        except RefusedError:
            return

    threads = [threading.Thread(target=try_it) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [8]


def test_what_another_version_has_written_is_watched_like_any_other(store: Objects) -> None:
    store.create(NAME, json.dumps({"number": 3, "holder": {**asdict(ELSEWHERE), "new": 1}}).encode())
    assert take(store).number == 4
