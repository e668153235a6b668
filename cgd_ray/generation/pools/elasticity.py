"""Lets a role's pool of engines follow its work, between min_replicas and max_replicas, so that no GPU is held for long without any.

Of two roles one is the faster, and it waits for the other's; with pools of fixed size its engines hold GPUs that the slower one could
use. Where the ranges of the two roles overlap in what the cluster has, GPUs wander to the role that needs them; on a cluster that scales,
idle nodes are given back. What a pool has to do, averaged over as long as a start takes, decides: less than its engines have places for,
and those too many are given back; twice as much, and there are more, which Ray starts when there is room, or has nodes added that fit
them. Over a shorter time it would start engines that end before they have earned their start, over a longer one hold some for nothing.
Ray Data's own policy bounds a pool's growth by a share of what the cluster has now, never gives an engine back while rows may come that
way, and does not know what a start costs.
How to use: `follow_work(context)` on the DataContext in which a dataset is executed.
"""

import math
import time
from collections.abc import Iterator

from ray.data import DataContext
from ray.data._internal.actor_autoscaler import ActorAutoscaler, ActorPoolScalingRequest, AutoscalingActorPool
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data._internal.execution.streaming_executor_state import OpState

GROWS_FROM = 0.5
"""Share of the calls that its actors may hold from which on a pool adds actors: twice as many rows as they have places."""
CALLS_PER_PLACE = 4
"""Rows handed to an actor for each of its engine's places, in batches of SMALL_BATCH or less. A call holds its rows until the slowest is
finished; where lengths vary as those of answers do (lognormal, sigma 1), 2 leave a third of the places empty, 4 next to none (a
simulation, docs/benchmarks.md)."""
SMALL_BATCH = 16


def rows_per_place(batch_size: int) -> float:
    """The same of larger batches, whose slowest row is later: twice as many for eight times the rows keep as many places full (a
    simulation, docs/scale.md)."""
    return float(CALLS_PER_PLACE * max(1.0, batch_size / SMALL_BATCH) ** (1 / 3))


class FollowWork(ActorAutoscaler):
    """Decides, at each step of a dataflow, how many actors each pool is to have."""

    def __init__(self, executor: StreamingExecutor) -> None:
        super().__init__(executor._topology, executor._resource_manager)
        self._watches: dict[AutoscalingActorPool, PoolWatch] = {}

    def try_trigger_scaling(self) -> None:
        """Grow and shrink the pools."""
        for operator, state, pool in self._pools():
            watch, now = self._watches.setdefault(pool, PoolWatch()), time.monotonic()
            watch.look(pool, now)
            if change := _change(operator, state, pool, watch):
                pool.scale(ActorPoolScalingRequest(delta=change, force=True))
                watch.note_pending(pool, now)

    def _pools(self) -> Iterator[tuple[PhysicalOperator, OpState, AutoscalingActorPool]]:
        for operator, state in self._topology.items():
            for pool in operator.get_autoscaling_actor_pools():
                yield operator, state, pool


class PoolWatch:
    """What has been seen of one pool: how long starts take, and how much it has to do."""

    def __init__(self) -> None:
        self._pending: dict[object, float] = {}
        self._start_s = math.inf
        self._looked = self._since = 0.0
        self._calls = 0.0
        """That its actors hold, averaged."""
        self.surplus = 0
        """Actors more than there are places wanted."""
        self.lacking = 0
        """Actors that would be of use besides."""

    def look(self, pool: AutoscalingActorPool, now: float) -> None:
        """Take in the pool as it is."""
        self._see_starts(pool, now)
        self._average(int(pool.num_tasks_in_flight()), now)
        self.surplus = self.lacking = 0
        if now - self._since < self._start_s:
            return
        size, held = int(pool.current_size()), int(pool.max_actor_concurrency())
        wanted = math.ceil(self._calls * CALLS_PER_PLACE / held)  # blocks that wait tell nothing: a pool that is held back has some too
        self.surplus = max(0, size - wanted)
        self.lacking = max(0, wanted - size) if self._calls >= GROWS_FROM * held * size else 0

    def note_pending(self, pool: AutoscalingActorPool, now: float) -> None:
        """Take in which actors are on their way; one that was among them and was ended has not started."""
        self._pending = {ref: self._pending.get(ref, now) for ref in pool.get_pending_actor_refs()}

    def _see_starts(self, pool: AutoscalingActorPool, now: float) -> None:
        """The shortest start counts: a longer one has waited for room."""
        before = self._pending
        self.note_pending(pool, now)
        self._start_s = min([self._start_s, *(now - since for ref, since in before.items() if ref not in self._pending)])

    def _average(self, calls: int, now: float) -> None:
        """Older looks count the less, the more starts they are away; nothing counts before there is something to do."""
        if not self._calls:
            self._calls, self._since = float(calls), now
        elif self._start_s:
            self._calls += (calls - self._calls) * -math.expm1((self._looked - now) / self._start_s)
        self._looked = now


def _change(operator: PhysicalOperator, state: OpState, pool: AutoscalingActorPool, watch: PoolWatch) -> int:
    """Actors to add, or, if negative, to end; only those end that hold no row."""
    size, fewest, most = int(pool.current_size()), int(pool.min_size()), int(pool.max_size())
    if operator.has_completed() or (operator._inputs_complete and state.total_enqueued_input_blocks() == 0):
        return -size
    if size < fewest:
        return fewest - size
    if watch.surplus:
        return -min(watch.surplus, size - fewest)
    return max(0, min(watch.lacking, most - size))


class _Install(ExecutionCallback):
    def before_execution_starts(self, executor: StreamingExecutor) -> None:
        executor._actor_autoscaler = FollowWork(executor)


def follow_work(context: DataContext) -> None:
    """Use it in this context."""
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, _Install]
