"""What fits: training by stage, checkpointing and offload; engines by GPUs and contexts."""

from functools import cache

import pytest
from transformers import AutoConfig

from cgd_ray.config import RoleConfig, TrainingConfig
from cgd_ray.planning.memory.serving import engine_memory
from cgd_ray.planning.memory.training import smallest_that_fits, training_memory
from cgd_ray.planning.models.counting import count
from cgd_ray.planning.models.facts import ModelFacts

GIB = 2**30
H100 = 80.0 * GIB


@cache
def llama_8b() -> ModelFacts:
    return count(
        AutoConfig.for_model(
            "llama",
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            vocab_size=128256,
            max_position_embeddings=131072,
        )
    )


def test_each_stage_needs_less_than_the_one_before() -> None:
    needs = [training_memory(TrainingConfig(use_gpu=True, zero_stage=stage), llama_8b(), 16).device_bytes for stage in range(4)]
    assert needs == sorted(needs, reverse=True)


def test_checkpointing_keeps_the_input_of_each_layer_and_one_layer_whole() -> None:
    training = TrainingConfig(use_gpu=True, context_length=8192, activation_checkpointing=True)
    kept = training_memory(training, llama_8b(), 8).device["activations"]
    whole = training_memory(training.model_copy(update={"activation_checkpointing": False}), llama_8b(), 8).device["activations"]
    assert kept == pytest.approx(8192 * 4096 * 2 * 32 + whole / 32)


def test_what_is_offloaded_is_in_host_memory() -> None:
    training = TrainingConfig(use_gpu=True, zero_stage=3, offload="optimizer", num_workers=8)
    memory = training_memory(training, llama_8b(), 8)
    assert "optimizer" not in memory.device
    assert memory.host["optimizer"] == pytest.approx(12 * llama_8b().size.num_parameters / 8)


def test_the_smallest_change_that_fits_is_chosen() -> None:
    training = TrainingConfig(use_gpu=True, zero_stage=2, context_length=16384)
    fitting = smallest_that_fits(training, llama_8b(), 16, H100, 200 * GIB)
    assert fitting is not None
    assert (fitting.zero_stage, fitting.activation_checkpointing, fitting.offload) == (2, True, "none")
    assert smallest_that_fits(training, llama_8b(), 1, 24 * GIB, 64 * GIB) is None


def test_an_8b_engine_leaves_two_thirds_of_an_h100_for_its_cache() -> None:
    role = RoleConfig.model_validate({"model": "any", "placement": {"gpus_per_replica": 1, "requests_in_flight": 256}})
    memory = engine_memory(role, llama_8b(), H100)
    assert memory.weights == pytest.approx(16.06e9, rel=0.01)
    assert memory.cache_bytes_per_token == 131072
    assert 400_000 < memory.cached_tokens < 470_000
    assert memory.places(2000, 256) == memory.cached_tokens // 2000


def test_gpus_beyond_the_key_value_heads_share_no_cache() -> None:
    roles = [RoleConfig.model_validate({"model": "any", "placement": {"gpus_per_replica": gpus}}) for gpus in (8, 16)]
    eight, sixteen = (engine_memory(role, llama_8b(), H100).cache_bytes_per_token for role in roles)
    assert eight == sixteen
