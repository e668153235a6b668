"""A generation that loops is seen whatever its pattern, and handed to vLLM's own check; what is repeated with a meaning goes on."""

import asyncio
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.engines.engine_thread import EngineThread
from cgd_ray.engines.repetition import LEAST_TIMES, LOOK_EVERY_STEPS, kept_tokens, loop_in, watch_of

LEAST = 32


def text(length: int, seed: int = 0) -> list[int]:
    """Tokens without a pattern."""
    draw = random.Random(seed)
    return [draw.randrange(10**6) for _ in range(length)]


def periods(ids: Sequence[int]) -> list[int]:
    """Lengths of the patterns in which the tokens end for long enough, by trying each."""
    found = []
    for period in range(1, LEAST + 1):
        length = period * max(LEAST_TIMES, -(-LEAST // period))
        tail = ids[-length:]
        if len(tail) == length and all(tail[place] == tail[place - period] for place in range(period, length)):
            found.append(period)
    return found


@given(
    st.lists(st.integers(0, 2), max_size=12),
    st.lists(st.integers(0, 2), min_size=1, max_size=LEAST),
    st.integers(0, 120),
    st.integers(0, 3),
)
def test_a_loop_is_found_where_trying_every_length_finds_one(begin: list[int], pattern: list[int], length: int, rest: int) -> None:
    ids = begin + (pattern * (length + 1))[:length] + [2] * rest
    found, known = loop_in(ids, LEAST), periods(ids)
    assert (found is not None) == bool(known)
    if found is not None:
        period, times = found
        assert period == known[0], "the shortest"
        assert times * period >= LEAST
        assert times >= LEAST_TIMES


@pytest.mark.parametrize("period", [1, 2, 7, LEAST])
def test_a_pattern_loops_when_it_is_there_three_times_on_enough_tokens(period: int) -> None:
    enough = period * max(LEAST_TIMES, -(-LEAST // period))
    looping = text(50) + text(period, seed=1) * 100
    assert loop_in(looping[: 50 + enough], LEAST) == (period, enough // period)
    assert loop_in(looping[: 50 + enough - 1], LEAST) is None
    assert loop_in([*looping[: 50 + enough], 5], LEAST) is None, "it has gone on to something else"


def test_zeros_and_tables_are_no_loops_by_default() -> None:
    least = SamplingConfig().stop_repetition
    assert least is not None
    row = [1, *(2, 3) * 10, 4]
    for repeated in ([7] * 200, row * 11, [1, 4, 2, 8, 5, 7] * 40):
        assert loop_in(text(500) + repeated, least) is None
    assert loop_in(text(500) + [7] * 256, least) == (1, 256)


class Babbler:
    """Steps like vLLM: a token a step for each request, of what it is to say; looks for a loop where the request's parameters say so."""

    def __init__(self) -> None:
        self.requests: dict[str, Any] = {}

    def has_unfinished_requests(self) -> bool:
        return bool(self.requests)

    def add_request(self, request_id: str, prompt: Any, params: Any, lora_request: Any) -> None:
        self.requests[request_id] = SimpleNamespace(sampling_params=params, output_token_ids=[])

    def abort_request(self, request_ids: list[str]) -> None:
        raise AssertionError("it is vLLM that ends them")

    def step(self) -> list[SimpleNamespace]:
        finished = []
        for name, request in list(self.requests.items()):
            ids, params = request.output_token_ids, request.sampling_params
            ids.append(params.says[len(ids) % len(params.says)])
            check = params.repetition_detection
            if check is not None and loop_in(ids, check.max_pattern_size * check.min_count) is not None:
                finished.append((name, "repetition"))
            elif len(ids) == params.max_tokens:
                finished.append((name, "length"))
        return [self._output(name, self.requests.pop(name), reason) for name, reason in finished]

    def _output(self, name: str, request: Any, reason: str) -> SimpleNamespace:
        completion = SimpleNamespace(token_ids=request.output_token_ids, finish_reason=reason)
        return SimpleNamespace(request_id=name, outputs=[completion], finished=True)


def ends(sampling: SamplingConfig, *said: list[int], max_tokens: int = 400) -> list[tuple[str, int]]:
    """How generations that say this end, all in one engine, and after how many tokens."""
    engine = Babbler()
    thread = EngineThread(engine, RoleConfig(model="small"), after_step=watch_of(engine, sampling, SimpleNamespace))

    async def ask() -> list[Any]:
        params = [SimpleNamespace(says=says, repetition_detection=None, max_tokens=max_tokens) for says in said]
        return await asyncio.gather(*(thread.generate([1], each) for each in params))

    outputs = [output.outputs[0] for output in asyncio.run(ask())]
    thread.close()
    return [(output.finish_reason, len(output.token_ids)) for output in outputs]


def test_a_generation_that_loops_is_ended_and_the_others_go_on() -> None:
    looping, whole = ends(SamplingConfig(stop_repetition=LEAST), [1, 2, 3], text(400))
    assert (looping[0], whole) == ("repetition", ("length", 400))
    assert LEAST <= looping[1] <= LEAST + LOOK_EVERY_STEPS + 1


def test_nothing_is_looked_for_where_it_is_turned_off_or_vllm_looks_itself() -> None:
    assert ends(SamplingConfig(stop_repetition=None), [1]) == [("length", 400)]
    extra = {"repetition_detection": {"max_pattern_size": 8, "min_count": 3}}
    assert watch_of(Babbler(), SamplingConfig(extra=extra), SimpleNamespace) is None


@pytest.mark.parametrize("period", [1, 7, LEAST])
@pytest.mark.parametrize("seen_after", [0, 1, 63, 200])
def test_the_text_of_a_loop_is_the_same_whenever_it_was_seen(period: int, seen_after: int) -> None:
    enough = 50 + period * max(LEAST_TIMES, -(-LEAST // period))
    ids = (text(50) + text(period, seed=1) * 400)[: enough + seen_after]
    assert kept_tokens(ids, "repetition", SamplingConfig(stop_repetition=LEAST)) == ids[:enough]


def test_the_text_of_others_lacks_the_token_that_ends_it_and_nothing_else() -> None:
    assert kept_tokens([1, 1, 2], "stop", SamplingConfig()) == [1, 1]
    assert kept_tokens([1] * 1000, "length", SamplingConfig()) == [1] * 1000
