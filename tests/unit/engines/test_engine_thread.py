"""The thread that steps an engine ends its process when a step hangs, and only then; vLLM is not needed for that.

What may end the process runs in one of its own.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cgd_ray.config import RoleConfig
from cgd_ray.engines.engine import Load, RequestError
from cgd_ray.engines.engine_thread import EngineThread
from cgd_ray.engines.load import SchedulerWatch

STALL_TIMEOUT_S = 3.0
BURST = 10


class SlowEngine:
    """Each request takes `add_s` to be taken in; a step takes `step_s` and finishes all that are in."""

    def __init__(self, add_s: float = 0.0, step_s: float = 0.0) -> None:
        self._add_s, self._step_s = add_s, step_s
        self._inside: list[str] = []

    def has_unfinished_requests(self) -> bool:
        return bool(self._inside)

    def add_request(self, request_id: str, prompt: Any, params: Any, lora_request: Any) -> None:
        time.sleep(self._add_s)
        self._inside.append(request_id)

    def abort_request(self, request_ids: list[str]) -> None:
        self._inside = [name for name in self._inside if name not in request_ids]

    def step(self) -> list[SimpleNamespace]:
        time.sleep(self._step_s)
        finished, self._inside = self._inside, []
        completion = SimpleNamespace(text="4", token_ids=[1], finish_reason="stop")
        rest = {"outputs": [completion], "prompt_token_ids": [1, 2], "num_cached_tokens": 0, "finished": True}
        return [SimpleNamespace(request_id=request_id, **rest) for request_id in finished]


def start_thread(engine: Any) -> EngineThread:
    return EngineThread(engine, RoleConfig(model="small", stall_timeout_s=STALL_TIMEOUT_S))


async def ask(thread: EngineThread) -> list[str]:
    answers = await asyncio.gather(*(thread.generate([1, 2], params=SimpleNamespace()) for _ in range(BURST)))
    return [answer.outputs[0].text for answer in answers]


def ask_after_a_pause(log: Path) -> None:
    """Idle for longer than the timeout, then requests that take a while to be taken in, so that the watch looks meanwhile."""
    logging.basicConfig(filename=log)
    thread = start_thread(SlowEngine(add_s=0.4 * STALL_TIMEOUT_S / BURST))
    time.sleep(1.2 * STALL_TIMEOUT_S)
    assert asyncio.run(ask(thread)) == ["4"] * BURST
    thread.close()


def ask_an_engine_that_hangs(log: Path) -> None:
    logging.basicConfig(filename=log)
    asyncio.run(ask(start_thread(SlowEngine(step_s=3600.0))))


def ask_an_engine_that_breaks(log: Path) -> None:
    class BreakingEngine(SlowEngine):
        def step(self) -> list[SimpleNamespace]:
            raise RuntimeError("CUDA error")

    thread = start_thread(BreakingEngine())

    def note(reason: str) -> None:
        log.write_text(f"died of {reason}")

    thread.observe(lambda load: None, note)
    asyncio.run(ask(thread))


def outcome(work: Callable[[Path], None], log: Path) -> tuple[int | None, str]:
    """Exit code and log of a process of its own."""
    process = get_context("spawn").Process(target=work, args=(log,))
    process.start()
    process.join(timeout=300)
    process.kill()
    return process.exitcode, log.read_text() if log.exists() else ""


def test_requests_after_a_long_pause_are_no_stall(tmp_path: Path) -> None:
    code, log = outcome(ask_after_a_pause, tmp_path / "log")
    assert code == 0, log


def test_a_step_that_never_returns_ends_the_process(tmp_path: Path) -> None:
    code, log = outcome(ask_an_engine_that_hangs, tmp_path / "log")
    assert code == 1
    assert "the engine of small has taken no step for stall_timeout_s 3" in log


class EngineError(Exception):
    """vLLM's own errors of requests are no ValueErrors."""


class ChoosyEngine(SlowEngine):
    def add_request(self, request_id: str, prompt: Any, params: Any, lora_request: Any) -> None:
        if params.refused:
            raise EngineError("no such\ntoken")
        super().add_request(request_id, prompt, params, lora_request)


def test_a_request_that_the_engine_refuses_in_words_of_its_own_fails_alone() -> None:
    thread = EngineThread(ChoosyEngine(), RoleConfig(model="small"), refusals=(EngineError,))

    async def ask_both() -> list[Any]:
        requests = [thread.generate([1, 2], SimpleNamespace(refused=refused)) for refused in (True, False)]
        return await asyncio.gather(*requests, return_exceptions=True)

    refused, answered = asyncio.run(ask_both())
    thread.close()
    assert isinstance(refused, RequestError)
    assert str(refused) == "vLLM refuses the request: no such token"
    assert answered.outputs[0].text == "4"


def test_an_engine_that_breaks_ends_the_process_and_says_what_it_died_of(tmp_path: Path) -> None:
    assert outcome(ask_an_engine_that_breaks, tmp_path / "log") == (1, "died of RuntimeError: CUDA error")


def test_how_busy_the_engine_is_is_told_once_more_before_it_waits_for_requests() -> None:
    engine, told = SlowEngine(), list[Load]()

    def measure() -> Load:
        return Load(running=len(engine._inside), waiting=0, kv_cache_use=0.5, preemptions=0, unfinished_tokens=0)

    thread = EngineThread(engine, RoleConfig(model="small"), measure=measure)
    thread.observe(told.append, lambda reason: None)
    asyncio.run(ask(thread))
    thread.close()
    assert told[-1] == Load(running=0, waiting=0, kv_cache_use=0.5, preemptions=0, unfinished_tokens=0)


def test_preemptions_are_summed_over_the_requests_that_are_inside() -> None:
    requests = {name: SimpleNamespace(num_preemptions=0, output_token_ids=[1] * 3) for name in "ab"}
    cache = SimpleNamespace(usage=0.25)
    watch = SchedulerWatch(SimpleNamespace(requests=requests, kv_cache_manager=cache, get_request_counts=lambda: (len(requests), 1)))
    assert watch() == Load(running=2, waiting=1, kv_cache_use=0.25, preemptions=0, unfinished_tokens=6)
    requests["a"].num_preemptions, requests["b"].num_preemptions = 2, 1
    assert watch().preemptions == 3
    del requests["a"]
    requests["b"].num_preemptions = 2
    assert (watch().preemptions, watch().preemptions) == (4, 4)
