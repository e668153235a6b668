"""The places of one engine: how many requests it holds at once, and rows that need more than one place to themselves.

A row that was in an engine when it died may be the reason, so it is let in with fewer others, at last alone (in_flight.py).
How to use: `async with places.taken(1): ...` in the event loop of the engine's actor.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """A semaphore whose holders may take several places; first come, first served, so a large one is never starved."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Hold `count` places, at most all of them."""
        count = min(count, self.capacity)
        await self._take(count)
        try:
            yield
        finally:
            self._free += count
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
                self._free += count
            elif entry in self._waiting:
                self._waiting.remove(entry)
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            count, turn = self._waiting.popleft()
            if not turn.cancelled():  # else its waiter was cancelled together with the holder, and has not heard of it yet
                self._free -= count
                turn.set_result(None)
