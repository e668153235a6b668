"""When a run is asked to stop, what is finished is handed on and nothing else."""

import asyncio
import time
from pathlib import Path

import pytest

from cgd_ray.generation import draining


async def answer(number: int, after_s: float) -> int:
    await asyncio.sleep(after_s)
    return number


def test_without_a_flag_all_results_come_in_order(tmp_path: Path) -> None:
    async def work() -> list[int]:
        tasks = [asyncio.ensure_future(answer(number, 0.01 * (5 - number))) for number in range(5)]
        return await draining.finished_before_stop(tasks, tmp_path / "stop")

    assert asyncio.run(work()) == list(range(5))


def test_after_the_flag_slow_rows_are_left_out(tmp_path: Path) -> None:
    flag = tmp_path / "stop"
    flag.touch()

    async def work() -> list[int]:
        tasks = [asyncio.ensure_future(answer(number, after_s)) for number, after_s in ((0, 0.0), (1, 60.0), (2, 0.05))]
        return await draining.finished_before_stop(tasks, flag, grace_s=0.2)

    assert asyncio.run(work()) == [0, 2]


def test_a_reason_in_the_flag_leaves_more_time_until_the_flag_is_emptied(tmp_path: Path) -> None:
    flag = tmp_path / "stop"
    draining.end_run(flag, ValueError("no money left"))

    async def work(sigterm_after_s: float) -> list[int]:
        tasks = [asyncio.ensure_future(answer(number, after_s)) for number, after_s in ((0, 0.0), (1, 1.5), (2, 60.0))]
        asyncio.get_running_loop().call_later(sigterm_after_s, flag.write_text, "")
        return await draining.finished_before_stop(tasks, flag, grace_s=0.1, ended_grace_s=60.0)

    started = time.monotonic()
    assert asyncio.run(work(sigterm_after_s=2.5)) == [0, 1]
    assert time.monotonic() - started < 30


def test_a_reason_that_comes_after_sigterm_leaves_no_more_time(tmp_path: Path) -> None:
    flag = tmp_path / "stop"
    flag.touch()
    draining.end_run(flag, ValueError("no money left"))
    assert flag.read_text() == ""


def test_an_exception_is_raised_at_once_and_the_others_are_cancelled() -> None:
    async def broken() -> int:
        raise RuntimeError("the engine is broken")

    async def work() -> None:
        slow = asyncio.ensure_future(answer(1, 60.0))
        with pytest.raises(RuntimeError, match="the engine is broken"):
            await draining.finished_before_stop([slow, asyncio.ensure_future(broken())], None)
        assert slow.cancelled()

    started = time.monotonic()
    asyncio.run(work())
    assert time.monotonic() - started < 10
