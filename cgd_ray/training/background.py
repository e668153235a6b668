"""A training in the background: in a process of its own, while its driver does something else.

Ray Train is waited for by whoever starts it and cannot be asked to give up; an actor can be killed, and its workers end with it. Ray
Data's settings of the driver, which hold for its whole process, do not reach it either. SIGTERM, which the driver gets, reaches its ranks
as a file, as in any training: they save the step that they are in and end.
How to use: `with training_in_background(job, on_step) as training: ...; report = training.result()`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgd_ray.process.stopping import draining_on_signals
from cgd_ray.training.driver import OnStep, begin, check_stopped, run_trainer, tailing
from cgd_ray.training.job import TrainJob
from cgd_ray.training.observe.metrics import read_metrics
from cgd_ray.training.observe.totals import training_totals


class TrainerActor:
    """The actor's state: none."""

    def run(self, job: TrainJob) -> float:
        """Run the training to its end, as run_trainer()."""
        return run_trainer(job)


class BackgroundTraining:
    """The training under way."""

    def __init__(self, job: TrainJob, task: Any) -> None:
        self._job, self._task = job, task
        self._started = time.monotonic()

    def check(self) -> None:
        """Raise what the training has failed of, if it has."""
        import ray

        if ray.wait([self._task], timeout=0)[0]:
            self._wait()

    def result(self) -> dict[str, Any]:
        """Wait for its end; returns what driver.train does, and raises the same."""
        cpus = self._wait()
        check_stopped(self._job)
        return {
            **training_totals(self._job.training_config(), read_metrics(Path(self._job.metrics)), measured={}),
            "cpus_per_worker": cpus,
            "seconds": time.monotonic() - self._started,
        }

    def end_as_asked(self) -> None:
        """Wait for its end if the stop flag is there."""
        import ray

        if self._job.stop_flag.exists():
            ray.wait([self._task])

    def _wait(self) -> float:
        import ray

        try:
            cpus: float = ray.get(self._task)
            return cpus
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None


@contextmanager
def training_in_background(job: TrainJob, on_step: OnStep | None) -> Iterator[BackgroundTraining]:
    """Start the training; one that has not ended when this does is ended: after its save where SIGTERM is the reason, at once otherwise."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # so that no other node's loss is its own
    begin(job)
    with draining_on_signals(job.stop_flag), tailing(Path(job.metrics), on_step):
        # no task: cancelling one at the moment of its end is a fatal error inside Ray
        actor = ray.remote(TrainerActor).options(num_cpus=0, scheduling_strategy=here).remote()
        training = BackgroundTraining(job, actor.run.remote(job))
        try:
            yield training
        finally:
            training.end_as_asked()
            ray.kill(actor)
