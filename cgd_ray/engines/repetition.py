"""Finds generations that say the same for ever, and has vLLM end them.

vLLM has a check of its own for this (`repetition_detection`), which at every token tries every length of a pattern, 39 microseconds for
lengths up to 64, and which counts repetitions: few of them cut a long digit string, many never see a sentence that comes again and again.
So here the running generations are looked at once in a while, by how many tokens are repeated: 10 microseconds each, so that 1,000 of them
cost a step 0.16 ms (on the same core, which was busy otherwise too). Only one that loops is handed to vLLM's check, for just its pattern.
vLLM then ends it with the finish reason "repetition" as soon as the next token goes on in the same way, and gives its text back as any
other.
It works where vLLM's core is in this process, as it is unless the environment says otherwise; an endpoint is not looked into.
How to use: `EngineThread(engine, role, after_step=watch_of(scheduler, role.sampling, RepetitionDetectionParams))`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from cgd_ray.config import SamplingConfig

LOOK_EVERY_STEPS = 64
LEAST_TIMES = 3
"""How often a run of tokens must stand there to be a loop, however long it is."""
PROBE = 8
"""The last tokens, whose earlier places tell which lengths of a pattern are worth comparing."""


def loop_in(tail: Sequence[int], least_tokens: int) -> tuple[int, int] | None:
    """(tokens of the pattern, how often it is repeated) where the tail ends in a loop; None where it does not.

    A loop is a pattern of at most `least_tokens` tokens that stands there at least LEAST_TIMES, and on `least_tokens` tokens or more. So no
    more than the last LEAST_TIMES * `least_tokens` are looked at.
    """
    if len(tail) < least_tokens:
        return None
    for period in _distances(tail[-least_tokens - PROBE :], least_tokens):
        times = max(LEAST_TIMES, -(-least_tokens // period))
        start = len(tail) - times * period
        if start >= 0 and tail[start] == tail[start + period] and tail[start + period :] == tail[start:-period]:
            return period, times
    return None


def kept_tokens(token_ids: Sequence[int], finish_reason: str | None, sampling: SamplingConfig) -> Sequence[int]:
    """The tokens of a generation that are its text: without the one that ends it, and no further into a loop than makes it one.

    When a loop is seen depends on what else the engine had to do, where it became one on the generation alone: so the text is the same
    however often it is made, but for a model that would have left its loop by itself within LOOK_EVERY_STEPS.
    """
    least = sampling.stop_repetition
    if finish_reason != "repetition" or least is None:
        return token_ids[: -1 if finish_reason == "stop" else None]
    end = len(token_ids)
    while loop_in(token_ids[max(0, end - 1 - LEAST_TIMES * least) : end - 1], least) is not None:
        end -= 1
    return token_ids[:end]


def _distances(tail: Sequence[int], most: int) -> Iterator[int]:
    """How many tokens before its end, at most so many, the tail holds its last PROBE tokens too; the nearest place first."""
    back = tail[::-1]
    probe, place = back[:PROBE], 0
    with suppress(ValueError):  # the last token is not found any more
        while True:
            place = back.index(probe[0], place + 1, most + 1)
            if back[place : place + PROBE] == probe:
                yield place


class RepetitionWatch:
    """Calling it after each step of an engine looks at vLLM's scheduler, which must not be at work meanwhile."""

    def __init__(self, scheduler: Any, least_tokens: int, detection: Callable[..., Any]) -> None:
        """`detection` makes vLLM's RepetitionDetectionParams."""
        self._scheduler, self._least_tokens, self._detection = scheduler, least_tokens, detection
        self._steps = 0

    def __call__(self) -> None:
        """Look at every generation in one of LOOK_EVERY_STEPS steps."""
        self._steps += 1
        if self._steps % LOOK_EVERY_STEPS:
            return
        for request in self._scheduler.requests.values():
            if (found := loop_in(request.output_token_ids[-LEAST_TIMES * self._least_tokens :], self._least_tokens)) is not None:
                period, times = found
                request.sampling_params.repetition_detection = self._detection(
                    min_pattern_size=period, max_pattern_size=period, min_count=times
                )


def watch_of(scheduler: Any, sampling: SamplingConfig, detection: Callable[..., Any]) -> RepetitionWatch | None:
    """A watch over an engine of a role that decodes so; none where it is turned off, or vLLM's own check is set for every generation."""
    if sampling.stop_repetition is None or "repetition_detection" in sampling.extra:
        return None
    return RepetitionWatch(scheduler, sampling.stop_repetition, detection)
