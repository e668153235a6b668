"""One Ray Train worker: sets its process up, then runs the training loop.

Ray is told of no checkpoint and no metrics. The checkpoints are this project's own, found by their manifests (checkpoints/store.py): Ray
would restart from the last one that it was told of, without looking at its bytes, and refuses to start when one of those is gone. And
ray.train.report() holds all ranks until the controller has polled them, which it does every two seconds.

Heavy modules are imported after the environment is set, since several of them read it once.
Used by driver.py as `TorchTrainer(train_loop, train_loop_config=asdict(job))`.
"""

import os
from typing import Any

from cgd_ray.training.job import TrainJob


def train_loop(config: dict[str, Any]) -> None:
    """Run on each worker; config is a TrainJob as a dict."""
    job = TrainJob(**config)
    os.environ.update(job.environment)
    import ray.train

    from cgd_ray.training.loop import run_training

    run_training(job, is_preempted=lambda: ray.train.get_preemption_info() is not None)
