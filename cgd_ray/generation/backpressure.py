"""Keeps a dataflow's stages close together: none runs further ahead of the next engines than they need to stay full.

Ray Data's own policies bound what waits between two operators by shares of the object store, which rows of text never fill. A student
that is faster than its teacher would then answer the whole work list first: into the memory of the driver, where Ray keeps blocks of less
than 100 KB, and for nothing if the driver is killed.
How to use: `context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, POLICIES)` before a dataset is executed in that DataContext.
"""

from ray.data._internal.execution.backpressure_policy import ENABLED_BACKPRESSURE_POLICIES
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

BLOCKS_PER_ACTOR = 2
"""Blocks that may wait for each actor, which holds several times what its engine works on: these only bridge Ray's scheduling."""


class StayClose(BackpressurePolicy):
    """Holds an operator back while enough blocks wait for the actor pool that comes next."""

    def can_add_input(self, op: PhysicalOperator) -> bool:
        """Whether the operator may begin another task."""
        return not self._is_ahead(op)

    def max_task_output_bytes_to_read(self, op: PhysicalOperator) -> int | None:
        """Reading is one task for all blocks, so it is held back by its output; an actor's finished work is always taken."""
        return 0 if self._is_ahead(op) and not isinstance(op, ActorPoolMapOperator) else None

    def _is_ahead(self, op: PhysicalOperator) -> bool:
        return any(self._is_supplied(consumer) for consumer in op.output_dependencies)

    def _is_supplied(self, op: PhysicalOperator) -> bool:
        if not isinstance(op, ActorPoolMapOperator):
            return False
        # not those inside the operator: it keeps empty blocks, which a drained stage gives, until a full one comes
        waiting: int = sum(queue.num_blocks for queue in self._topology[op].input_queues)
        most_actors: int = sum(pool.max_size() for pool in op.get_autoscaling_actor_pools())
        return waiting >= BLOCKS_PER_ACTOR * most_actors


POLICIES = [*ENABLED_BACKPRESSURE_POLICIES, StayClose]
