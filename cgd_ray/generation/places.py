"""How many rows are in an engine at once: a row takes a place of it, and there are fewer where the engine lacks memory for so many.

An engine that is given more requests than its memory for keys and values holds throws some out and computes them again. How many it holds
depends on how long the texts become, which nobody knows beforehand; so `requests_in_flight` is the most, and there are a quarter fewer
places after each look at which requests had been thrown out, and slowly more again while there is memory.
How to use, in an actor's event loop: `places = Places(128)`; `async with places.taken(1): ...`; `places.resize(pressure.places)`, where
`pressure = Pressure(most=128)` is told the engine's loads.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cgd_ray.engines.engine import Load

BACK_OFF = 0.75
"""Share of the places that are left after requests have been thrown out."""
FEWEST = 0.125
"""Share of the places that there always are."""
CALM = 0.8
"""Use of the memory below which there may be more places."""
GROWTH = 1 / 64
"""Of all places, after each calm look, of which there is one a second."""


class Pressure:
    """How many places an engine has memory for, from its loads, which it may be told by any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = float(most)
        self._preemptions: int | None = None

    @property
    def places(self) -> int:
        """At the moment."""
        return int(self._places)

    def __call__(self, load: Load) -> None:
        """Take a look's load."""
        new = 0 if self._preemptions is None else load.preemptions - self._preemptions
        self._preemptions = load.preemptions
        if new > 0:
            self._places = max(1.0, self._most * FEWEST, self._places * BACK_OFF)
        elif load.kv_cache_use < CALM:
            self._places = min(float(self._most), self._places + self._most * GROWTH)


class Places:
    """A semaphore whose holders may take several places; first come, first served, so a large one is never starved."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def resize(self, capacity: int) -> None:
        """Have more or fewer places from now on; who is inside stays."""
        self.capacity = capacity
        self._admit()

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Hold `count` places; who wants as many as there are, or more, is alone."""
        await self._take(count)
        try:
            yield
        finally:
            self._taken -= count
            self._admit()

    async def _take(self, count: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (count, turn)
        self._waiting.append(entry)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # admitted, and cancelled before it could go on
                self._taken -= count
            elif entry in self._waiting:
                self._waiting.remove(entry)
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._fits(self._waiting[0][0])):
            count, turn = self._waiting.popleft()
            if not turn.cancelled():  # else its waiter was cancelled together with the holder, and has not heard of it yet
                self._taken += count
                turn.set_result(None)

    def _fits(self, count: int) -> bool:
        return self._taken + count <= self.capacity or self._taken == 0
