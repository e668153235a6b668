"""What a training worker is told is whole before it is told."""

import pytest

from cgd_ray.config import TrainingConfig
from cgd_ray.training.job import TrainJob


def test_a_precision_that_nobody_has_settled_is_refused_in_one_line() -> None:
    training = TrainingConfig().model_dump(mode="json")
    job = TrainJob(training=training, model="m", packed="packed", checkpoints="checkpoints", metrics="metrics.jsonl", export_to="model")
    with pytest.raises(ValueError, match=r"^training.precision is auto, .*; set it to bf16 or fp32$"):
        job.training_config()
