"""Lets a role's pool of engines follow its work, between min_replicas and max_replicas, so that no GPU is held for long without any.

Of two roles one is the faster, and it waits for the other's; with pools of fixed size its engines hold GPUs that the slower one could
use. Where the ranges of the two roles overlap in what the cluster has, GPUs wander to the role that needs them; on a cluster that scales,
idle nodes are given back. A pool grows at once, as far as its backlog asks, and Ray starts the engines when there is room, or has nodes
added that fit them. It gives an engine back once so many have been idle for as long as a start takes: who does not know how long nothing
will come, as with rented skis, pays so at most twice what the best plan would have paid.
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


class FollowWork(ActorAutoscaler):
    """Decides, at each step of a dataflow, how many actors each pool is to have."""

    def __init__(self, executor: StreamingExecutor) -> None:
        super().__init__(executor._topology, executor._resource_manager)
        self._watches: dict[AutoscalingActorPool, PoolWatch] = {}

    def try_trigger_scaling(self) -> None:
        """Grow and shrink the pools."""
        for operator, state, pool in self._pools():
            watch = self._watches.setdefault(pool, PoolWatch())
            surplus = watch.surplus(pool, time.monotonic())
            if change := _change(operator, state, pool, surplus):
                pool.scale(ActorPoolScalingRequest(delta=change, force=True))

    def _pools(self) -> Iterator[tuple[PhysicalOperator, OpState, AutoscalingActorPool]]:
        for operator, state in self._topology.items():
            for pool in operator.get_autoscaling_actor_pools():
                yield operator, state, pool


class PoolWatch:
    """What has been seen of one pool: how long starts take, and how many of its actors have been idle for how long."""

    def __init__(self) -> None:
        self._pending: dict[object, float] = {}
        self._start_s = math.inf
        self._idle_since: list[float] = []

    def surplus(self, pool: AutoscalingActorPool, now: float) -> int:
        """Actors without a row, so many of which there have been for as long as a start takes; whichever these were."""
        self._see_starts(pool, now)
        num_idle = max(0, pool.num_running_actors() - pool.num_active_actors() - pool.num_restarting_actors())
        del self._idle_since[num_idle:]
        self._idle_since += [now] * (num_idle - len(self._idle_since))
        return sum(now - since >= self._start_s for since in self._idle_since)

    def _see_starts(self, pool: AutoscalingActorPool, now: float) -> None:
        """The shortest start counts: a longer one has waited for room."""
        pending = {ref: self._pending.get(ref, now) for ref in pool.get_pending_actor_refs()}
        started = [now - since for ref, since in self._pending.items() if ref not in pending]
        self._start_s = min([self._start_s, *started])
        self._pending = pending


def _change(operator: PhysicalOperator, state: OpState, pool: AutoscalingActorPool, surplus: int) -> int:
    """Actors to add, or, if negative, to end; only those end that hold no row."""
    size, fewest, most = int(pool.current_size()), int(pool.min_size()), int(pool.max_size())
    if operator.has_completed() or (operator._inputs_complete and state.total_enqueued_input_blocks() == 0):
        return -size
    if size < fewest:
        return fewest - size
    if surplus:
        return -min(surplus, size - fewest)
    calls, per_actor = int(pool.num_tasks_in_flight()), GROWS_FROM * int(pool.max_actor_concurrency())
    if calls < per_actor * size:
        return 0
    wanted = math.ceil((calls + int(state.total_enqueued_input_blocks())) / per_actor)
    return max(0, min(wanted, most) - size)


class _Install(ExecutionCallback):
    def before_execution_starts(self, executor: StreamingExecutor) -> None:
        executor._actor_autoscaler = FollowWork(executor)


def follow_work(context: DataContext) -> None:
    """Use it in this context."""
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, _Install]
