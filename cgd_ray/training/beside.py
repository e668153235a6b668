"""A training in a process of its own, beside what its driver does meanwhile.

Ray Train is waited for by whoever starts it and cannot be asked to end; an actor can be killed, and its workers end with it. Ray Data's
settings of the driver, which hold for its whole process, do not reach it either.
How to use: `with training_beside(job, on_step) as training: ...; report = training.result()`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgd_ray.training.driver import OnStep, fit, tailing
from cgd_ray.training.job import TrainJob
from cgd_ray.training.metrics import read_metrics
from cgd_ray.training.report import report_of


class Fitting:
    """The actor's state: none."""

    def fit(self, job: TrainJob) -> None:
        """Run the training to its end."""
        fit(job)


class Beside:
    """The training under way."""

    def __init__(self, job: TrainJob, task: Any) -> None:
        self._job, self._task = job, task
        self._started = time.monotonic()

    def check(self) -> None:
        """Raise what the training has failed of, if it has."""
        import ray

        if ray.wait([self._task], timeout=0)[0]:
            self.result()

    def result(self) -> dict[str, Any]:
        """Wait for its end; returns what driver.train does, and raises the same."""
        import ray

        try:
            ray.get(self._task)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        return {
            **report_of(self._job.training_config(), read_metrics(Path(self._job.metrics))),
            "seconds": time.monotonic() - self._started,
        }


@contextmanager
def training_beside(job: TrainJob, on_step: OnStep | None) -> Iterator[Beside]:
    """Start the training; one that has not ended when this does is ended."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # so that no other node's loss is its own
    # no task: cancelling one at the moment of its end is a fatal error inside Ray
    actor = ray.remote(Fitting).options(num_cpus=0, scheduling_strategy=here).remote()
    try:
        with tailing(Path(job.metrics), on_step):
            yield Beside(job, actor.fit.remote(job))
    finally:
        ray.kill(actor)
