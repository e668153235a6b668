"""What vLLM is told about the GPU of its engine and about sampling; no engine is started for that."""

import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from cgd_ray.config import PlacementConfig, RoleConfig, SamplingConfig
from cgd_ray.engines.vllm_engine import SHARED_GPU_MEMORY, engine_arguments, gpu_to_itself, sampling_params, set_environment


def arguments(gpus: float, **engine: object) -> dict[str, object]:
    return engine_arguments(RoleConfig(model="small", placement=PlacementConfig(gpus_per_replica=gpus), engine=engine))


def test_engines_that_share_a_gpu_share_its_memory() -> None:
    assert arguments(0.25)["tensor_parallel_size"] == 1
    assert arguments(0.25)["gpu_memory_utilization"] == 0.25 * SHARED_GPU_MEMORY
    assert arguments(0.25, gpu_memory_utilization=0.2)["gpu_memory_utilization"] == 0.2
    with pytest.raises(ValueError, match=r"gpu_memory_utilization is 0\.92 and placement\.gpus_per_replica 0\.25; remove it, or lower it"):
        arguments(0.25, gpu_memory_utilization=0.92)
    assert arguments(4)["tensor_parallel_size"] == 4
    assert "gpu_memory_utilization" not in arguments(4)


@pytest.mark.parametrize(("gpus", "together"), [(0.5, 1), (1, 3)])
def test_engines_that_share_a_gpu_start_one_after_another(gpus: float, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", uuid.uuid4().hex)
    starting, meeting = [0], threading.Barrier(together)

    def start(_: int) -> int:
        with gpu_to_itself(PlacementConfig(gpus_per_replica=gpus)):
            starting[0] += 1
            meeting.wait(timeout=30)
            time.sleep(0.2)  # so that the others come meanwhile, where nothing holds them back
            seen = starting[0]
            meeting.wait(timeout=30)
            starting[0] -= 1
        return seen

    with ThreadPoolExecutor(3) as pool:
        assert max(pool.map(start, range(3))) == together


def test_engines_that_draw_from_generators_of_their_own_begin_with_different_seeds() -> None:
    assert arguments(1)["seed"] != arguments(1)["seed"]
    assert arguments(1, seed=3)["seed"] == 3
    assert "seed" not in arguments(0)


def test_a_users_plugins_of_vllm_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "mine")
    set_environment(on_cpu=True)
    assert os.environ["VLLM_PLUGINS"] == "mine"


def test_vllm_gets_every_setting_of_the_sampling_and_further_fields_of_its_own() -> None:
    set_environment(on_cpu=True)
    sampling = SamplingConfig(
        temperature=0.7,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        min_tokens=4,
        logit_bias={5: -1.0},
        extra={"ignore_eos": True, "repetition_detection": {"max_pattern_size": 8, "min_count": 3}},
    )
    params = sampling_params(sampling, max_tokens=3, seed=7, stop_token_ids=[2, 9])
    assert (params.min_p, params.repetition_penalty, params.presence_penalty, params.frequency_penalty) == (0.1, 1.1, 0.2, 0.3)
    assert (params.min_tokens, params.max_tokens, params.seed, params.stop_token_ids) == (3, 3, 7, [2, 9])  # the context has less room
    assert (params.logit_bias, params.ignore_eos, params.repetition_detection.min_count) == ({5: -1.0}, True, 3)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"temperature": 3.0}, r"vLLM refuses sampling: temperature must be in \[0, 2\], got 3\.0"),
        ({"extra": {"min_q": 1}}, r"vLLM refuses sampling: extra\.min_q is nothing that it knows; remove it"),
        ({"extra": {"_eos_token_id": 1}}, r"extra\._eos_token_id is nothing that it knows"),
        ({"extra": {"repetition_detection": {"max_size": 8}}}, r"extra\.repetition_detection\.max_size is nothing that it knows"),
    ],
)
def test_what_vllm_refuses_of_the_sampling_is_one_line(settings: dict[str, object], line: str) -> None:
    set_environment(on_cpu=True)
    with pytest.raises(ValueError, match=line) as refused:
        sampling_params(SamplingConfig.model_validate(settings), max_tokens=3)
    assert "\n" not in str(refused.value)
