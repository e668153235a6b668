"""What the training asks Ray for: the CPUs that step an offloaded optimizer, and memory for an export."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cgd_ray.config import TrainingConfig
from cgd_ray.training.driver import make_trainer
from cgd_ray.training.job import TrainJob
from cgd_ray.training.placing import PROCESS_BYTES, cpus_of_worker, export_bytes
from tests.builders import tiny_model

OFFLOADED = {"use_gpu": True, "offload": "optimizer"}


@pytest.mark.parametrize(
    ("settings", "nodes", "cpus"),
    [
        ({}, [{"CPU": 64.0, "GPU": 8.0}], 1),
        ({"use_gpu": True}, [{"CPU": 64.0, "GPU": 8.0}], 1),
        ({"offload": "optimizer"}, [{"CPU": 64.0}], 1),
        (OFFLOADED, [{"CPU": 64.0, "GPU": 8.0}], 7),
        (OFFLOADED, [{"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 48.0, "GPU": 8.0}], 5),  # the head node has no GPU
        (OFFLOADED, [{"CPU": 8.0, "GPU": 8.0}], 1),
        (OFFLOADED, [{"CPU": 16.0}], 1),
        ({**OFFLOADED, "cpus_per_worker": 2.5}, [{"CPU": 64.0, "GPU": 8.0}], 2.5),
        ({"cpus_per_worker": 0.0}, [{"CPU": 4.0}], 0.0),
    ],
)
def test_an_offloaded_optimizer_gets_its_gpus_share_of_the_nodes_cpus(
    settings: dict[str, Any], nodes: list[dict[str, float]], cpus: float
) -> None:
    assert cpus_of_worker(TrainingConfig(**settings), nodes) == cpus


def test_an_export_asks_for_the_model_and_a_file_of_it_in_its_precision_and_for_more_with_adapters(tmp_path: Path) -> None:
    model = str(tiny_model(tmp_path, dtype=torch.bfloat16))
    half = export_bytes(TrainingConfig(precision="bf16"), model) - PROCESS_BYTES
    num_parameters = half // 4
    assert 100_000 < num_parameters < 200_000
    assert export_bytes(TrainingConfig(precision="fp32"), model) - PROCESS_BYTES == 2 * half
    adapted = TrainingConfig.model_validate({"precision": "bf16", "lora": {}})
    assert export_bytes(adapted, model) - PROCESS_BYTES == 16 * num_parameters


def test_collectives_have_the_timeout_of_the_settings(tmp_path: Path) -> None:
    training = TrainingConfig(precision="fp32", collective_timeout_s=60, cpus_per_worker=3.0, num_workers=(2, 5))
    job = TrainJob(
        training=training.model_dump(mode="json"), model="", packed="", checkpoints=str(tmp_path / "checkpoints"), metrics="", export_to=""
    )
    trainer = make_trainer(job, job.training_config())
    assert trainer.backend_config.timeout_s == 60
    assert (trainer.scaling_config.num_workers, trainer.scaling_config.resources_per_worker) == ((2, 5), {"CPU": 3.0})
