"""What vLLM is told about the GPU of its engine; vLLM is not needed for that."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from cgd_ray.config import PlacementConfig, RoleConfig
from cgd_ray.engines.vllm_engine import SHARED_GPU_MEMORY, engine_arguments, gpu_to_itself


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
