"""Keeps a dataflow small however long its work list is: the stages close together, the driver's memory flat.

Ray Data's own policies bound what waits between two operators by shares of the object store, which rows of text never fill. A student
that is faster than its teacher would then answer the whole work list first: into the memory of the driver, where Ray keeps blocks of less
than 100 KB, and for nothing if the driver is killed.
How to use: `keep_small(context)` on the DataContext in which a dataset is executed.
"""

from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import ENABLED_BACKPRESSURE_POLICIES, ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.operators.task_pool_map_operator import TaskPoolMapOperator
from ray.data._internal.execution.streaming_executor import StreamingExecutor

BLOCKS_PER_PROCESS = 2
"""Blocks that may wait for each writer and each actor, which holds several times what its engine works on: they bridge scheduling."""


class StayClose(BackpressurePolicy):
    """Holds an operator back while enough blocks wait for the actors or the writers that come next."""

    def can_add_input(self, op: PhysicalOperator) -> bool:
        """Whether the operator may begin another task."""
        return not self._is_ahead(op)

    def max_task_output_bytes_to_read(self, op: PhysicalOperator) -> int | None:
        """Reading is few tasks of many blocks, so it is held back by its output; an actor's finished work is always taken."""
        return 0 if self._is_ahead(op) and not isinstance(op, ActorPoolMapOperator) else None

    def _is_ahead(self, op: PhysicalOperator) -> bool:
        return any(self._is_supplied(consumer) for consumer in op.output_dependencies)

    def _is_supplied(self, op: PhysicalOperator) -> bool:
        # not those inside the operator, which keeps empty blocks, as a drained stage gives, until a full one comes, and gathers a part
        waiting: int = sum(queue.num_blocks for queue in self._topology[op].input_queues)
        most = _most_processes(op)
        return most is not None and waiting >= BLOCKS_PER_PROCESS * most


def _most_processes(op: PhysicalOperator) -> int | None:
    """Actors, or tasks at a time, that an operator may come to have; None without a limit."""
    most: int | None = None
    if isinstance(op, ActorPoolMapOperator):
        most = sum(pool.max_size() for pool in op.get_autoscaling_actor_pools())
    elif isinstance(op, TaskPoolMapOperator):
        most = op.get_max_concurrency_limit()
    return most


class ForgetBlocks(ExecutionCallback):
    """Drops what Ray Data remembers of every finished block, 4 KiB each, for statistics at the end that are not told here."""

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """Empty the operators' lists."""
        for op in executor._topology or ():
            for blocks in op.get_stats().values():
                blocks.clear()


def keep_small(context: DataContext) -> None:
    """Use both in this context."""
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, StayClose])
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, ForgetBlocks]
