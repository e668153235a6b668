"""Rows in an engine: as many as there are places, in their order; and fewer places where the engine's memory does not hold so many."""

import asyncio

import pytest

from cgd_ray.engines.engine import Load
from cgd_ray.generation.places import Places, Pressure


def test_no_more_places_are_taken_than_there_are_and_all_come_back() -> None:
    async def work() -> list[int]:
        places, held, seen = Places(4), 0, []

        async def hold(count: int) -> None:
            nonlocal held
            async with places.taken(count):
                held += count
                seen.append(held)
                await asyncio.sleep(0)
                held -= count

        await asyncio.gather(*[hold(1 + index % 4) for index in range(40)])
        async with places.taken(4):
            return seen

    assert max(asyncio.run(work())) == 4


def test_a_large_one_is_not_passed_by_small_ones_that_came_later() -> None:
    async def work() -> list[str]:
        places, order = Places(2), []

        async def hold(name: str, count: int) -> None:
            async with places.taken(count):
                order.append(name)
                await asyncio.sleep(0.01)

        await asyncio.gather(hold("first", 1), hold("large", 2), hold("late", 1))
        return order

    assert asyncio.run(work()) == ["first", "large", "late"]


async def comes_free(places: Places, count: int) -> bool:
    """Whether so many places can be had."""
    try:
        async with asyncio.timeout(1), places.taken(count):
            return True
    except TimeoutError:
        return False


def test_more_than_all_means_all() -> None:
    assert asyncio.run(comes_free(Places(2), 99))


async def hold(places: Places) -> None:
    async with places.taken(1):
        await asyncio.sleep(60)


def test_a_cancelled_wait_gives_its_turn_to_the_next() -> None:
    async def work() -> bool:
        places = Places(1)
        async with places.taken(1):
            waiting = asyncio.ensure_future(hold(places))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        return await comes_free(places, 1)

    assert asyncio.run(work())


def test_cancelled_in_the_moment_of_being_admitted_the_place_is_free_again() -> None:
    async def work() -> bool:
        places = Places(1)

        async with places.taken(1):
            task = asyncio.ensure_future(hold(places))
            await asyncio.sleep(0)
        task.cancel()  # admitted above, not yet awake
        await asyncio.gather(task, return_exceptions=True)
        return await comes_free(places, 1)

    assert asyncio.run(work())


def test_holders_and_waiters_that_are_cancelled_together_leave_all_places_free() -> None:
    async def work() -> list[BaseException | None]:
        places = Places(2)
        tasks = [asyncio.ensure_future(hold(places)) for _ in range(6)]
        await asyncio.sleep(0)
        for task in tasks:  # the holders wake first, and find turns whose waiters have yet to hear that they are cancelled
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(1), places.taken(2):
            return ends

    assert [type(end) for end in asyncio.run(work())] == [asyncio.CancelledError] * 6


def test_with_fewer_places_those_inside_stay_and_with_more_the_next_enter() -> None:
    async def work() -> list[int]:
        places, inside, seen = Places(4), 0, []

        async def hold_a_while() -> None:
            nonlocal inside
            async with places.taken(1):
                inside += 1
                seen.append(inside)
                await asyncio.sleep(0.01)
                inside -= 1

        tasks = [asyncio.ensure_future(hold_a_while()) for _ in range(12)]
        await asyncio.sleep(0)
        places.resize(2)
        await asyncio.sleep(0.035)
        assert max(seen[4:]) == 2
        places.resize(6)
        await asyncio.gather(*tasks)
        return seen

    seen = asyncio.run(work())
    assert (len(seen), max(seen[:4])) == (12, 4)


def test_who_wants_all_places_is_alone_even_when_they_become_more() -> None:
    async def work() -> bool:
        places = Places(4)
        places.resize(2)
        async with places.taken(4):
            places.resize(4)
            return await comes_free(places, 1)

    assert not asyncio.run(work())


def load(preemptions: int, use: float = 0.9) -> Load:
    return Load(running=1, waiting=0, kv_cache_use=use, preemptions=preemptions, unfinished_tokens=0)


def test_requests_that_are_thrown_out_cost_a_quarter_of_the_places_at_each_look_but_never_all() -> None:
    pressure = Pressure(most=128)
    pressure(load(5))  # an engine's first look tells of nothing new
    assert pressure.places == 128
    pressure(load(6))
    assert pressure.places == 96
    pressure(load(6))
    assert pressure.places == 96
    for preemptions in range(7, 30):
        pressure(load(preemptions))
    assert pressure.places == 16


def test_places_come_back_while_there_is_memory() -> None:
    pressure = Pressure(most=128)
    for preemptions in (0, 1, 2):
        pressure(load(preemptions))
    assert pressure.places == 72
    pressure(load(2, use=0.85))
    assert pressure.places == 72
    pressure(load(2, use=0.5))
    assert pressure.places == 74
    for _ in range(60):
        pressure(load(2, use=0.5))
    assert pressure.places == 128


@pytest.mark.parametrize("most", [1, 2, 3])
def test_there_is_always_a_place(most: int) -> None:
    pressure = Pressure(most)
    for preemptions in range(50):
        pressure(load(preemptions))
    assert pressure.places >= 1
