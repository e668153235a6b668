"""Runs the training on Ray Train: a worker group with DeepSpeed inside, restarted from the newest checkpoint when a worker fails.

How to use, with Ray initialised:
`train(config.training, config.student.model, run.packed, run.checkpoints, run.metrics, run.model, on_step)`.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cgd_ray.config import TrainingConfig
from cgd_ray.training.job import TrainJob
from cgd_ray.training.metrics import MetricsTail, read_metrics
from cgd_ray.training.report import report_of

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
) -> dict[str, Any]:
    """Train `model` on packed rows and publish the result as `export_to`; resumes from what `checkpoints` holds.

    `validation` holds the packed held-out examples; `about` says for the model card where the data come from; `chat_template` is the file
    with the template of a model that has none. Returns what report_of() does, and seconds (of this call). on_step gets each step's
    metrics, in order. Raises TrainingStoppedError, or Ray Train's error once max_failures is used up.
    """
    started = time.monotonic()
    job = TrainJob(
        training=training.model_dump(mode="json"),
        model=model,
        packed=str(packed),
        checkpoints=str(checkpoints),
        metrics=str(metrics),
        export_to=str(export_to),
        validation=None if training.validation is None else str(validation),
        about=dict(about or {}),
        chat_template=chat_template,
        environment=passed_on(),
    )
    with tailing(metrics, on_step):
        fit(job)
    return {**report_of(training, read_metrics(metrics)), "seconds": time.monotonic() - started}


def passed_on() -> dict[str, str]:
    """What the workers need of this process's environment."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def fit(job: TrainJob) -> None:
    """Run the training on Ray Train to its end. Raises as train() does."""
    Path(job.checkpoints).mkdir(parents=True, exist_ok=True)
    job.stopped_file.unlink(missing_ok=True)
    _make_trainer(job, job.training_config()).fit()
    if job.stopped_file.exists():
        raise TrainingStoppedError(_explain(job))


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
