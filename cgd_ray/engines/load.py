"""How busy vLLM's engine is, read from its scheduler now and then by the thread that steps it.

Why not vLLM's own statistics: they note something of every request in every step, for metrics most of which nobody looks at.
How to use: `EngineThread(engine, role, measure=SchedulerWatch(scheduler))`; `thread.observe(on_load, on_death)`.
"""

from typing import Any

from cgd_ray.engines.engine import Load


class SchedulerWatch:
    """Calling it reads vLLM's scheduler, which must not be at work meanwhile."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._preempted: dict[str, int] = {}  # of the requests that are inside
        self._preemptions = 0

    def __call__(self) -> Load:
        """What is inside now. Preemptions of requests that have left since the last look are not seen."""
        running, waiting = self._scheduler.get_request_counts()
        preempted = {name: count for name, request in self._scheduler.requests.items() if (count := request.num_preemptions)}
        self._preemptions += sum(count - self._preempted.get(name, 0) for name, count in preempted.items())
        self._preempted = preempted
        return Load(
            running=running,
            waiting=waiting,
            kv_cache_use=self._scheduler.kv_cache_manager.usage,
            preemptions=self._preemptions,
            unfinished_tokens=sum(len(request.output_token_ids) for request in self._scheduler.requests.values()),
        )
