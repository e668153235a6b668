"""Lets callers on asyncio loops use a synchronous engine, such as vLLM's, which one thread steps.

Callers put requests into a queue; the thread adds them between steps and hands finished ones back to their loops. A fatal engine error
ends the process: Ray then replaces the actor and gives its rows to another one.
How to use: `thread = EngineThread(engine, role)`; `output = await thread.generate(input_ids, params)`; `thread.close()`.
"""

import asyncio
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from cgd_ray.config import RoleConfig
from cgd_ray.engines.engine import Load, OnDeath, OnLoad, RequestError

logger = logging.getLogger(__name__)

FINISH_REASONS = ("stop", "length", "repetition")
LOOK_INTERVAL_S = 1.0

Output = Any
"""What vLLM makes of a request, its RequestOutput: request_id, finished, outputs[0].finish_reason and more that only callers read."""


class SteppedEngine(Protocol):
    """What is used of vLLM's LLMEngine; a method may take as long as a step."""

    def has_unfinished_requests(self) -> bool:
        """Whether a step would do anything."""

    def add_request(self, request_id: str, prompt: Any, params: Any, lora_request: Any) -> Any:
        """Take a request in. Raises one of the thread's `refusals` for one that the engine does not take."""

    def abort_request(self, request_ids: list[str]) -> None:
        """Forget requests."""

    def step(self) -> Sequence[Output]:
        """Generate the next token of the requests that are in."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    input_ids: list[int]
    params: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Output] = field(repr=False)


class EngineThread:
    """Steps an engine while it has requests, and ends the process when a step fails or does not return.

    Every request takes the `adapter`, in vLLM's words; None is the model alone. `refusals` are the errors by which the engine says that it
    does not take a request; `measure` reads how busy it is, between two steps, and `after_step` is called after each of them.
    """

    def __init__(
        self,
        engine: SteppedEngine,
        role: RoleConfig,
        adapter: Any = None,
        refusals: tuple[type[Exception], ...] = (ValueError,),
        measure: Callable[[], Load] | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        self._engine, self._role, self._adapter, self._refusals = engine, role, adapter, refusals
        self._measure, self._after_step = measure, after_step
        self._on_load: OnLoad | None = None
        self._on_death: OnDeath | None = None
        self._looked = 0.0
        self._inbox: queue.SimpleQueue[_Request | asyncio.Future[Output] | None] = queue.SimpleQueue()
        self._running: dict[str, _Request] = {}
        self._num_requests = 0
        self._stepped = time.monotonic()  # or was without requests, which is no stall
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name="vllm-watch", daemon=True).start()

    def observe(self, on_load: OnLoad, on_death: OnDeath) -> None:
        """Tell how busy the engine is, and why the process is ended."""
        self._on_load, self._on_death = on_load, on_death

    async def generate(self, input_ids: list[int], params: Any) -> Output:
        """What the engine makes of a prompt. Raises RequestError when the engine refuses it or gives it up."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Output] = loop.create_future()
        self._inbox.put(_Request(input_ids=input_ids, params=params, loop=loop, future=future))
        try:
            return await future
        except asyncio.CancelledError:
            self._inbox.put(future)
            raise

    def close(self) -> None:
        """Stop stepping."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take_requests():
                self._stepped = time.monotonic()
                finished = [output for output in self._engine.step() if output.finished]
                if self._after_step is not None:
                    self._after_step()
                if self._stepped - self._looked > LOOK_INTERVAL_S or len(finished) == len(self._running):  # once more before it waits
                    self._look()
                self._hand_back(finished)
        except BaseException as error:
            logger.critical("the engine of %s died", self._role.model, exc_info=True)
            self._end_process(f"{type(error).__name__}: {error}")

    def _look(self) -> None:
        self._looked = self._stepped
        if self._measure is not None and self._on_load is not None:
            self._on_load(self._measure())

    def _watch(self) -> None:
        """End the process when the engine hangs in a step, which no exception tells."""
        limit = self._role.stall_timeout_s
        while self._thread.is_alive():
            time.sleep(min(1.0, limit / 4))
            if self._running and time.monotonic() - self._stepped > limit:
                reason = f"the engine of {self._role.model} has taken no step for stall_timeout_s {limit:g}"
                logger.critical(reason)
                self._end_process(reason)

    def _end_process(self, reason: str) -> NoReturn:
        """Ray then starts another actor, which repeats the rows."""
        try:
            if self._on_death is not None:
                self._on_death(reason)
            logging.shutdown()
        finally:
            os._exit(1)

    def _take_requests(self) -> bool:
        """Move what has arrived into the engine, waiting when there is nothing else to do; False when the engine is closed."""
        while True:
            is_idle = not self._engine.has_unfinished_requests()
            try:
                message = self._inbox.get(block=is_idle)
            except queue.Empty:
                return True
            if is_idle:
                self._stepped = time.monotonic()  # before the watch sees a request
            if message is None:
                return False
            if isinstance(message, _Request):
                self._add(message)
            else:
                self._abort(message)

    def _add(self, request: _Request) -> None:
        request_id = str(self._num_requests)
        self._num_requests += 1
        try:
            prompt = {"type": "token", "prompt_token_ids": request.input_ids}
            self._engine.add_request(request_id, prompt, request.params, lora_request=self._adapter)
        except self._refusals as error:
            reason = RequestError(f"vLLM refuses the request: {' '.join(str(error).split())}")
            request.loop.call_soon_threadsafe(_fail, request.future, reason)
            return
        self._running[request_id] = request

    def _abort(self, future: asyncio.Future[Output]) -> None:
        for request_id, request in list(self._running.items()):
            if request.future is future:
                del self._running[request_id]
                self._engine.abort_request([request_id])

    def _hand_back(self, outputs: Sequence[Output]) -> None:
        """Resolve the futures of finished requests, with one wake-up per loop and step."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Output], Output]]] = {}
        for output in outputs:
            request = self._running.pop(output.request_id)
            by_loop.setdefault(request.loop, []).append((request.future, output))
        for loop, finished in by_loop.items():
            loop.call_soon_threadsafe(_resolve, finished)


def _fail(future: asyncio.Future[Output], error: RequestError) -> None:
    if not future.done():
        future.set_exception(error)


def _resolve(finished: Sequence[tuple[asyncio.Future[Output], Output]]) -> None:
    for future, output in finished:
        if future.done():
            continue
        reason = output.outputs[0].finish_reason
        if reason in FINISH_REASONS:
            future.set_result(output)
        else:
            future.set_exception(RequestError(f"vLLM ended the request with {reason!r}"))
