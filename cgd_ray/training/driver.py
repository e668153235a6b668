"""Runs the training on Ray Train: a worker group with DeepSpeed inside, restarted from the newest checkpoint when a worker fails.

How to use, with Ray initialised: `report = train(TrainJob.of(config, run), on_step)`.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cgd_ray.config import TrainingConfig
from cgd_ray.process.faults import StageFailedError
from cgd_ray.process.stopping import StoppedError, draining_on_signals
from cgd_ray.training.checkpoints.store import best, fingerprint, prune
from cgd_ray.training.job import TrainJob
from cgd_ray.training.measuring import Examine, OnMeasured, measuring
from cgd_ray.training.observe.gauges import StepGauges
from cgd_ray.training.observe.measurements import read_measurements
from cgd_ray.training.observe.metrics import MetricsTail, read_metrics
from cgd_ray.training.observe.totals import training_totals
from cgd_ray.training.placing import cpus_of_worker, exporting

POLL_INTERVAL_S = 0.5

OnStep = Callable[[dict[str, float]], None]


class TrainingStoppedError(StageFailedError):
    """The loss or the gradients stopped being finite; the message names step, records and the last good checkpoint."""


def train(
    job: TrainJob, on_step: OnStep | None = None, examine: Examine | None = None, on_measured: OnMeasured = lambda line: None
) -> dict[str, Any]:
    """Train on packed rows and publish the student; resumes from what the job's directory of checkpoints holds.

    on_step gets each step's metrics, in order. `examine` has a model answer held-out problems where training.validation.answers asks for
    it (measuring.py), and on_measured gets what came out. Returns what training_totals() does, cpus_per_worker and seconds (of this
    call). Raises TrainingStoppedError, StoppedError when SIGTERM has ended it after a save, or Ray Train's error once max_failures is used
    up.
    """
    started, training, metrics = time.monotonic(), job.training_config(), Path(job.metrics)
    begin(job)
    with (
        draining_on_signals(job.stop_flag),
        tailing(metrics, on_step),
        nullcontext() if examine is None else measuring(job, examine, on_measured),
    ):
        cpus = run_trainer(job)
    check_stopped(job)
    measured = read_measurements(job.measurements_file)
    prune(Path(job.checkpoints), training.keep_checkpoints, len(read_metrics(metrics)), measured)  # what was kept to be measured alone
    if training.export == "best" and training.validation is not None and training.validation.choose_by == "pass@1":
        _export_best_by_answers(job, training)
    totals = training_totals(training, read_metrics(metrics), measured)
    return {**totals, "cpus_per_worker": cpus, "seconds": time.monotonic() - started}


def begin(job: TrainJob) -> None:
    """Forget what a former run was asked for or ended with; before SIGTERM can set the flag anew."""
    Path(job.checkpoints).mkdir(parents=True, exist_ok=True)
    for flag in (job.stopped_file, job.stop_flag):
        flag.unlink(missing_ok=True)


def run_trainer(job: TrainJob) -> float:
    """Run the training on Ray Train to its end, or to where the stop flag ends it; returns the CPUs that each worker had.

    Raises as train() does, but for StoppedError.
    """
    import ray

    cpus = cpus_of_worker(job.training_config(), [node["Resources"] for node in ray.nodes() if node["Alive"]])
    settled = replace(job, training={**job.training, "cpus_per_worker": cpus})
    _wait_for(make_trainer(settled, settled.training_config()).fit)
    if job.stopped_file.exists():
        raise TrainingStoppedError(explain(job))
    return cpus


def _wait_for(fit: Callable[[], Any]) -> None:
    """Run Ray Train in a thread: in the main one it would take Ctrl-C for itself and end the process without a word."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            fit()
            outcome.set_result(None)
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True, name="ray-train").start()
    outcome.result()


def check_stopped(job: TrainJob) -> None:
    """Raise StoppedError when the training was asked to stop."""
    if job.stop_flag.exists():
        step = len(read_metrics(Path(job.metrics)))
        raise StoppedError(f"stopped after step {step}, which is saved; the same command goes on from there")


def make_trainer(job: TrainJob, training: TrainingConfig) -> Any:
    """Ray Train's trainer for a job whose CPUs per worker are settled."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from cgd_ray.training.worker import train_loop

    checkpoints = Path(job.checkpoints)
    return TorchTrainer(
        train_loop,
        train_loop_config=asdict(job),
        torch_config=TorchConfig(timeout_s=training.collective_timeout_s),
        scaling_config=ray.train.ScalingConfig(
            num_workers=training.num_workers,  # an int, or (fewest, most): Ray then follows the cluster
            use_gpu=training.use_gpu,
            resources_per_worker={"CPU": training.cpus_per_worker, **({"GPU": 1} if training.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=checkpoints.name,  # with the parent as storage, Ray's directory of this run is `checkpoints` itself
            storage_path=str(checkpoints.parent),
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
        ),
    )


def _export_best_by_answers(job: TrainJob, training: TrainingConfig) -> None:
    """In a task of its own: the model is held whole in host memory, and not in the driver's."""
    import ray

    from cgd_ray.training.checkpoints.export import export_checkpoint

    name = fingerprint(training, job.model, Path(job.packed), job.adapter)
    chosen = best(Path(job.checkpoints), name, "pass@1", read_measurements(job.measurements_file))
    ray.get(exporting(export_checkpoint, job).remote(job, chosen, Path(job.export_to)))


@contextmanager
def tailing(metrics: Path, on_step: OnStep | None) -> Iterator[None]:
    """Call on_step for every step that appears in the metrics file, from a thread of its own; Prometheus is told too."""
    tail, gauges, finished = MetricsTail(metrics), StepGauges(), threading.Event()

    def look() -> None:
        for step in tail.new_steps():
            gauges(step)
            if on_step is not None:
                on_step(step)

    def follow() -> None:
        while not finished.wait(POLL_INTERVAL_S):
            look()

    thread = threading.Thread(target=follow, daemon=True, name="metrics-tail")
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        look()
        gauges.end()


def explain(job: TrainJob) -> str:
    """Why the training has stopped itself, and what it leaves."""
    problem = json.loads(job.stopped_file.read_text(encoding="utf-8"))["problem"]
    saved = sorted(path.parent.name for path in Path(job.checkpoints).glob("step-*/manifest.json"))
    kept = f"the last good checkpoint is {Path(job.checkpoints) / saved[-1]}" if saved else "no checkpoint had been saved"
    return f"training stopped at {problem}; {kept}; lower training.learning_rate or drop those records"
