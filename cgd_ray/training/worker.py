"""One Ray Train worker: sets its process up, then runs the training loop; Ray is told the metrics of every checkpoint.

The checkpoints themselves stay this project's own, found by their manifests (checkpoints/store.py): Ray would restart from the last one
that it was told of, without looking at its bytes, and refuses to start when one of those is gone.

Heavy modules are imported after the environment is set, since several of them read it once.
Used by driver.py as `TorchTrainer(train_loop, train_loop_config=asdict(job))`.
"""

import os
from pathlib import Path
from typing import Any

from cgd_ray.training.job import TrainJob


def train_loop(config: dict[str, Any]) -> None:
    """Run on each worker; config is a TrainJob as a dict."""
    job = TrainJob(**config)
    os.environ.update(job.environment)
    import ray.train

    from cgd_ray.training.loop import run_training

    def on_saved(metrics: dict[str, float], checkpoint: Path) -> None:
        ray.train.report(metrics)

    run_training(job, on_saved, is_preempted=lambda: ray.train.get_preemption_info() is not None)
