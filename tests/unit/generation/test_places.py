"""An engine's places: never more in use than there are, first come first served, and a cancelled wait leaves nothing behind."""

import asyncio

from cgd_ray.generation.places import Places


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
