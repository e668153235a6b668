"""Measures checkpoints while the training goes on: the student of each answers held-out problems, the problem alone.

A thread of the driver looks for published checkpoints that ask for it and takes them one after the other. A Ray task exports the student
from the checkpoint's files and has it answered by what run.py has handed down; so no rank is asked for anything, and a driver that is
started again goes on with what has no line in validation.jsonl yet. A checkpoint is kept as long as its answers are awaited.

Why not the asynchronous validation of Ray Train: it validates checkpoints that Ray has been told of by all ranks together, so here a whole
save later than they are there; it remembers them in a file of its own and refuses to start again when one of them has been pruned or
found damaged; and what a validation failed of is told to the controller's log alone.
How to use: `with measuring(job, examine, on_measured): trainer.fit()`.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgd_ray.process.console import last_line
from cgd_ray.training.checkpoints import store as checkpoints
from cgd_ray.training.job import TrainJob
from cgd_ray.training.observe.measurements import Measurement, add_measurement, read_measurements
from cgd_ray.training.observe.trackers import start_trackers
from cgd_ray.training.placing import exporting

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.5

Examine = Callable[[str, Path], dict[str, Any]]
"""Answers the held-out problems with a model, keeps the answers in a directory, and returns the report. Crosses processes."""
OnMeasured = Callable[[Measurement], None]


@contextmanager
def measuring(job: TrainJob, examine: Examine, on_measured: OnMeasured) -> Iterator[None]:
    """Measure checkpoints while the body runs, and at its end what is left; on_measured gets each line of validation.jsonl.

    A body that fails, or the stop flag, leaves what is not measured to the next start. A measurement that fails is a line with its reason.
    """
    is_over, is_abandoned = threading.Event(), threading.Event()

    def is_given_up() -> bool:
        return is_abandoned.is_set() or job.stop_flag.exists()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="measuring") as pool:
        work = pool.submit(_measure_all, job, examine, on_measured, is_over, is_given_up)
        try:
            yield
        except BaseException:
            is_abandoned.set()
            raise
        finally:
            is_over.set()
        work.result()


def _measure_all(
    job: TrainJob, examine: Examine, on_measured: OnMeasured, is_over: threading.Event, is_given_up: Callable[[], bool]
) -> None:
    while not is_given_up():
        was_over = is_over.is_set()  # before looking: what is published in between is seen in the next round
        if left := checkpoints.awaited(Path(job.checkpoints), read_measurements(job.measurements_file)):
            report = _measure(job, left[0], examine, is_given_up)
            if report is not None:
                line = {"step": left[0].step, **{name: value for name, value in report.items() if name != "model"}}  # which is gone
                add_measurement(job.measurements_file, line)
                _track(job, line)
                on_measured(line)
        elif was_over:
            return
        else:
            is_over.wait(POLL_INTERVAL_S)


def _measure(job: TrainJob, saved: checkpoints.Saved, examine: Examine, is_given_up: Callable[[], bool]) -> dict[str, Any] | None:
    """The report, or why there is none; None when it is no longer wanted."""
    import ray

    reference = exporting(_export_and_examine, job).remote(job, saved, examine)
    while not ray.wait([reference], timeout=POLL_INTERVAL_S)[0]:
        if is_given_up():
            ray.cancel(reference, force=True)
            return None
    try:
        report: dict[str, Any] = ray.get(reference)
        return report
    except ray.exceptions.RayError as error:
        logger.warning("checkpoint %s could not be measured", saved.directory, exc_info=error)
        return {"problem": last_line(getattr(error, "cause", None) or error)}


def _export_and_examine(job: TrainJob, saved: checkpoints.Saved, examine: Examine) -> dict[str, Any]:
    """The task. Half-finished answers of a former try are of no use: they go first."""
    from cgd_ray.training.checkpoints.export import export_checkpoint

    directory = job.measurements_file.with_suffix("") / saved.directory.name
    shutil.rmtree(directory, ignore_errors=True)
    model = directory / "model"
    export_checkpoint(job, checkpoints.checked(saved.directory), model)
    try:
        return examine(str(model), directory)
    finally:
        shutil.rmtree(model)


def _track(job: TrainJob, line: Measurement) -> None:
    """TensorBoard takes steps in any order; the other trackers belong to the training's first rank, which is steps ahead."""
    if "tensorboard" in job.training_config().trackers and "pass@1" in line:
        (tracker,) = start_trackers(["tensorboard"], job.measurements_file.with_suffix(""), "", line["step"] - 1)
        tracker.log({"validation/pass@1": line["pass@1"]}, line["step"])
        tracker.close()
