"""Stand-ins for engines, each with the one property that a benchmark is about; the factories cross processes.

How to use: `generate(config, run, engine_factory=InstantEngine)`, or `SlowEngines(median_s=0.1, sigma=1.0, times=directory)` in its place.
"""

import asyncio
import math
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.data.prompts import Message
from cgd_ray.engines.engine import Generation

INSTANT = Generation(
    text="7 x 6 = 42, so the answer is \\boxed{42}.\nConclusion: right",
    num_tokens=24,
    prompt_tokens=96,
    cached_tokens=48,
    finish_reason="stop",
)


class InstantEngine:
    """Answers at once and always the same, so that what is measured is the pipeline around it. Its own factory."""

    chat = None

    def __init__(self, role: RoleConfig) -> None:
        self.role = role

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """The constant."""
        return INSTANT

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, kw_only=True)
class SlowEngines:
    """A factory of engines whose turns take lognormal times that are a function of the turn's seed alone."""

    median_s: float
    sigma: float
    times: Path
    """Directory for one file an engine, a line a turn: seconds since the epoch at its start and at its end."""
    num_engines: int = 1
    """No turn starts before so many engines are there, so that starting actors is no part of the times."""
    start_s: float = 0.0
    """What an engine takes to start."""
    longest_s: float = math.inf
    """The longest time of a turn, which has its most tokens."""

    def __call__(self, role: RoleConfig) -> "SlowEngine":
        return SlowEngine(self)

    def latency_s(self, seed: int) -> float:
        """How long the turn with this seed takes."""
        return min(self.longest_s, random.Random(seed).lognormvariate(math.log(self.median_s), self.sigma))


class SlowEngine:
    """One engine of SlowEngines; holds any number of turns, so the stage's places are the limit."""

    chat = None

    def __init__(self, settings: SlowEngines) -> None:
        self._settings = settings
        time.sleep(settings.start_s)
        settings.times.mkdir(parents=True, exist_ok=True)
        self._times = (settings.times / f"{os.getpid()}-{time.monotonic_ns()}.txt").open("w", buffering=1)
        self._all_there = False

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """The constant, after this turn's time."""
        while not self._all_there:
            self._all_there = len(list(self._settings.times.iterdir())) >= self._settings.num_engines
            await asyncio.sleep(0.0 if self._all_there else 0.01)
        started = time.time()
        await asyncio.sleep(self._settings.latency_s(seed))
        self._times.write(f"{started} {time.time()}\n")
        return INSTANT

    def close(self) -> None:
        """Close the file."""
        self._times.close()
