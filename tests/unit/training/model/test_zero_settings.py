"""DeepSpeed's configuration: what other settings decide, what is passed through, and that a model is split where it will stay."""

from typing import Any

import pytest

from cgd_ray.config import TrainingConfig
from cgd_ray.training.model.zero_settings import init_settings, settings
from cgd_ray.training.observe.work import ModelSize

SIZE = ModelSize(
    num_parameters=1000, hidden_size=8, flops_per_token=6000.0, flops_per_target=0.0, attention_width=8, num_attention_layers=2
)


@pytest.mark.parametrize("offload", ["none", "optimizer", "parameters"])
@pytest.mark.parametrize("use_gpu", [False, True])
def test_a_model_is_built_with_the_placement_that_it_is_trained_with(offload: Any, use_gpu: bool) -> None:
    training = TrainingConfig(zero_stage=3, offload=offload, use_gpu=use_gpu)
    built, trained = init_settings(training)["zero_optimization"], settings(training, 2, SIZE)["zero_optimization"]
    host = {"device": "cpu", "pin_memory": use_gpu}
    assert built == {
        "stage": 3,
        **({} if offload == "none" else {"offload_optimizer": host}),
        **({"offload_param": host} if offload == "parameters" else {}),
    }
    assert built.items() <= trained.items()


def test_the_micro_batches_are_those_of_the_plan() -> None:
    training = TrainingConfig(global_batch_size=64, micro_batch_size=3, num_workers=(8, 16))
    assert [settings(training, size, SIZE)["gradient_accumulation_steps"] for size in (8, 9, 16)] == [3, 3, 2]


def test_further_settings_are_passed_through_in_groups_and_have_the_last_word() -> None:
    further = {"zero_optimization": {"overlap_comm": True, "round_robin_gradients": True}, "communication_data_type": "fp32"}
    plain, made = (settings(TrainingConfig(deepspeed=passed), 2, SIZE) for passed in ({}, further))
    assert made == {
        **plain,
        "zero_optimization": {**plain["zero_optimization"], "overlap_comm": True, "round_robin_gradients": True},
        "communication_data_type": "fp32",
    }
    assert init_settings(TrainingConfig(zero_stage=3, deepspeed=further))["zero_optimization"]["round_robin_gradients"] is True
