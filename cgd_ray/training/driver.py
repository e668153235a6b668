"""Runs the training on Ray Train: a worker group with DeepSpeed inside, restarted from the newest checkpoint when a worker fails.

How to use, with Ray initialised:
`train(config.training, config.student.model, run.packed, run.checkpoints, run.metrics, run.model, on_step)`.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cgd_ray.config import TrainingConfig
from cgd_ray.process.stopping import StoppedError, draining_on_sigterm
from cgd_ray.training.checkpoints.store import best, fingerprint, prune
from cgd_ray.training.job import TrainJob
from cgd_ray.training.measuring import Answer, OnAnswers, answering
from cgd_ray.training.observe.measurements import read_answers
from cgd_ray.training.observe.metrics import MetricsTail, read_metrics
from cgd_ray.training.observe.totals import report_of

POLL_INTERVAL_S = 0.5
PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "TRANSFORMERS_OFFLINE")

OnStep = Callable[[dict[str, float]], None]


class TrainingStoppedError(RuntimeError):
    """The loss or the gradients stopped being finite; the message names step, records and the last good checkpoint."""


def train(
    training: TrainingConfig,
    model: str,
    packed: Path,
    checkpoints: Path,
    metrics: Path,
    export_to: Path,
    on_step: OnStep | None = None,
    validation: Path | None = None,
    about: Mapping[str, str] | None = None,
    chat_template: str | None = None,
    answer: Answer | None = None,
    on_answers: OnAnswers = lambda line: None,
    adapter: str | None = None,
) -> dict[str, Any]:
    """Train `model` on packed rows and publish the result as `export_to`; resumes from what `checkpoints` holds.

    `validation` holds the packed held-out examples; `about` says for the model card where the data come from; `chat_template` is the file
    with the template of a model that has none, `adapter` the directory of a LoRA adapter that is merged into the model first. `answer`
    answers held-out problems where training.validation.answers asks for it (see answering.py), and on_answers gets what came out; on_step
    gets each step's metrics, in order. Returns what report_of() does, and seconds (of this call). Raises TrainingStoppedError, StoppedError
    when SIGTERM has ended it after a save, or Ray Train's error once max_failures is used up.
    """
    started = time.monotonic()
    job = TrainJob(
        training=training.model_dump(mode="json"),
        model=model,
        adapter=adapter,
        packed=str(packed),
        checkpoints=str(checkpoints),
        metrics=str(metrics),
        export_to=str(export_to),
        validation=None if training.validation is None else str(validation),
        about=dict(about or {}),
        chat_template=chat_template,
        environment=passed_on(),
    )
    begin(job)
    with (
        draining_on_sigterm(job.stop_flag),
        tailing(metrics, on_step),
        nullcontext() if answer is None else answering(job, answer, on_answers),
    ):
        fit(job)
    check_stopped(job)
    answers = read_answers(job.answers_file)
    prune(checkpoints, training.keep_checkpoints, len(read_metrics(metrics)), answers)  # what was kept for its answers alone
    if training.export == "best" and training.validation is not None and training.validation.choose_by == "pass@1":
        _export_best_by_answers(job, training)
    return {**report_of(training, read_metrics(metrics), answers), "seconds": time.monotonic() - started}


def passed_on() -> dict[str, str]:
    """What the workers need of this process's environment."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def begin(job: TrainJob) -> None:
    """Forget what a former run was asked for or ended with; before SIGTERM can set the flag anew."""
    Path(job.checkpoints).mkdir(parents=True, exist_ok=True)
    for flag in (job.stopped_file, job.stop_flag):
        flag.unlink(missing_ok=True)


def fit(job: TrainJob) -> None:
    """Run the training on Ray Train to its end, or to where the stop flag ends it. Raises as train() does, but for StoppedError."""
    _make_trainer(job, job.training_config()).fit()
    if job.stopped_file.exists():
        raise TrainingStoppedError(_explain(job))


def check_stopped(job: TrainJob) -> None:
    """Raise StoppedError when the training was asked to stop."""
    if job.stop_flag.exists():
        step = len(read_metrics(Path(job.metrics)))
        raise StoppedError(f"stopped after step {step}, which is saved; the same command goes on from there")


def _make_trainer(job: TrainJob, training: TrainingConfig) -> Any:
    import ray.train
    from ray.train.torch import TorchTrainer

    from cgd_ray.training.worker import train_loop

    checkpoints = Path(job.checkpoints)
    return TorchTrainer(
        train_loop,
        train_loop_config=asdict(job),
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

    from cgd_ray.training.checkpoints.checkpoint_export import export_checkpoint

    name = fingerprint(training, job.model, Path(job.packed), job.adapter)
    chosen = best(Path(job.checkpoints), name, "pass@1", read_answers(job.answers_file))
    ray.get(ray.remote(num_cpus=0, max_calls=1)(export_checkpoint).remote(job, chosen, Path(job.export_to)))


@contextmanager
def tailing(metrics: Path, on_step: OnStep | None) -> Iterator[None]:
    """Call on_step for every step that appears in the metrics file, from a thread of its own."""
    if on_step is None:
        yield
        return
    tail, finished = MetricsTail(metrics), threading.Event()

    def follow() -> None:
        while not finished.wait(POLL_INTERVAL_S):
            for step in tail.new_steps():
                on_step(step)

    thread = threading.Thread(target=follow, daemon=True, name="metrics-tail")
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        for step in tail.new_steps():
            on_step(step)


def _explain(job: TrainJob) -> str:
    problem = json.loads(job.stopped_file.read_text(encoding="utf-8"))["problem"]
    saved = sorted(path.parent.name for path in Path(job.checkpoints).glob("step-*/manifest.json"))
    kept = f"the last good checkpoint is {Path(job.checkpoints) / saved[-1]}" if saved else "no checkpoint had been saved"
    return f"training stopped at {problem}; {kept}; lower training.learning_rate or drop those records"
