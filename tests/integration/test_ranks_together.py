"""Around the training the ranks wait for one that works alone, share the reading of a checkpoint, and place what they hold."""

import importlib.util
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from cgd_ray.cluster.preflight import check_libraries
from cgd_ray.config import TrainingConfig
from cgd_ray.data.rundir import file_sha256
from cgd_ray.training.checkpoints.restoring import newest_good
from cgd_ray.training.checkpoints.store import publish
from cgd_ray.training.meeting import Meeting
from cgd_ray.training.model.zero import ZeroEngine, use_accelerator
from cgd_ray.training.model.zero_settings import init_settings
from tests.builders import tiny_model
from tests.distributed import run_ranks

WORLD_SIZE = 2
TIMEOUT_S = 1
OFFLOADED = TrainingConfig(zero_stage=3, offload="parameters", precision="fp32", num_workers=WORLD_SIZE, collective_timeout_s=77)


def save(checkpoints: Path, step: int, fingerprint: str = "mine") -> Path:
    """A checkpoint of two files; returns its directory."""
    written = checkpoints / f".step-{step:08d}.attempt.tmp"
    written.mkdir(parents=True)
    entries = []
    for rank in range(WORLD_SIZE):
        shard = written / f"rank-{rank:05d}.safetensors"
        shard.write_bytes(b"state of %d" % rank)
        entries.append({"path": shard.name, "bytes": shard.stat().st_size, "sha256": file_sha256(shard)})
    details = {"step": step, "validation_loss": None, "is_answered": False, "consumed": None}
    return publish(written, checkpoints, fingerprint, entries, details)


def observe(root: Path, model: str) -> None:
    """Run on each rank: write what it saw as a JSON file."""
    opened: list[str] = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    meeting, seen = Meeting(), dict[str, Any]()
    seen["told"], seen["all"] = meeting.told(f"rank {meeting.rank}"), meeting.all(f"rank {meeting.rank}")
    found = newest_good(root / "checkpoints", "mine", lambda num_steps: None, meeting)
    seen["step"] = None if found is None else found.step
    seen["read"] = sorted({name for name in opened if name.endswith(".safetensors")})
    try:
        newest_good(root / "checkpoints", "another", lambda num_steps: None, meeting)
    except ValueError as error:
        seen["refusal"] = str(error)
    seen |= _placed(model, meeting)
    seen["loaded_for_nothing"] = [module for module in ("mlflow", "torch._inductor.compile_fx") if module in sys.modules]
    seen["is_alone_refused"] = _waits(meeting)
    (root / f"seen-{meeting.rank}.json").write_text(json.dumps(seen))


def _placed(model: str, meeting: Meeting) -> dict[str, Any]:
    """Where ZeRO-3 puts the parts of a model while it is built and afterwards, and how long DeepSpeed's own group waits."""
    use_accelerator(use_gpu=False)
    from deepspeed import zero

    placed: dict[str, Any] = {}
    for offload in ("optimizer", "parameters"):
        remote = zero.Init(config_dict_or_path=init_settings(OFFLOADED.model_copy(update={"offload": offload}))).remote_device
        placed[offload] = "the rank's own device" if isinstance(remote, torch.device) else str(remote)
    check_libraries(OFFLOADED.model_copy(update={"deepspeed": {"zero_optimization": {"round_robin_gradients": True}}}))
    try:
        check_libraries(OFFLOADED.model_copy(update={"deepspeed": {"zero_optimization": {"overlap_com": True}}}))
    except ValueError as error:
        placed["refused_setting"] = str(error)
    engine = ZeroEngine(OFFLOADED, model, meeting)
    parts = [parameter.ds_tensor for parameter in engine.causal_lm.parameters()]
    placed["devices"] = sorted({str(part.device) for part in parts})
    placed["is_split"] = sum(part.numel() for part in parts) < sum(parameter.ds_numel for parameter in engine.causal_lm.parameters())
    group = engine._engine.data_parallel_group
    placed["timeout_s"] = group._get_backend(torch.device("cpu")).options._timeout.total_seconds()
    return placed


def _waits(meeting: Meeting) -> bool:
    """Rank 0 is away for longer than a collective waits; whether one that the other rank begins alone then fails."""
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=TIMEOUT_S))
    is_refused = False
    if meeting.rank == 0:
        time.sleep(2 * TIMEOUT_S)
    meeting.wait()
    if meeting.rank == 1:
        try:
            dist.barrier()
        except RuntimeError:
            is_refused = True
    meeting.wait()
    return is_refused


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, of which the newer one's second file is damaged, and what both ranks saw."""
    root = tmp_path_factory.mktemp("ranks")
    save(root / "checkpoints", 5)
    damaged = save(root / "checkpoints", 10) / "rank-00001.safetensors"
    damaged.write_bytes(b"stale" + damaged.read_bytes()[5:])
    model = tiny_model(root / "model", dtype=torch.float32)
    run_ranks(WORLD_SIZE, root / "meeting", observe, root, str(model))
    return root


@pytest.fixture(scope="module")
def seen(root: Path) -> list[dict[str, Any]]:
    return [json.loads((root / f"seen-{rank}.json").read_text()) for rank in range(WORLD_SIZE)]


def test_all_ranks_know_what_one_tells_and_what_all_have(seen: list[dict[str, Any]]) -> None:
    assert [of_rank["told"] for of_rank in seen] == ["rank 0", "rank 0"]
    assert [of_rank["all"] for of_rank in seen] == [["rank 0", "rank 1"]] * 2


def test_a_rank_that_works_alone_for_longer_than_a_collective_waits_ends_nobody(seen: list[dict[str, Any]]) -> None:
    assert [of_rank["is_alone_refused"] for of_rank in seen] == [False, True], "a collective should have failed meanwhile"


def test_each_rank_reads_its_share_of_a_checkpoint_and_all_fall_back_from_a_damaged_one(root: Path, seen: list[dict[str, Any]]) -> None:
    assert [of_rank["step"] for of_rank in seen] == [5, 5]
    for rank, of_rank in enumerate(seen):
        assert of_rank["read"] == [str(root / "checkpoints" / f"step-{step:08d}" / f"rank-{rank:05d}.safetensors") for step in (5, 10)]


def test_what_is_refused_is_refused_on_all_ranks_before_any_file_is_read(seen: list[dict[str, Any]]) -> None:
    assert all("was made from other data, model or settings" in of_rank["refusal"] for of_rank in seen)


def test_deepspeed_loads_nothing_heavy_that_a_training_on_cpus_does_not_use(seen: list[dict[str, Any]]) -> None:
    assert importlib.util.find_spec("mlflow") is not None
    assert [of_rank["loaded_for_nothing"] for of_rank in seen] == [[], []]


def test_parameters_that_are_offloaded_are_put_into_host_memory_from_the_start(seen: list[dict[str, Any]]) -> None:
    for of_rank in seen:
        assert (of_rank["optimizer"], of_rank["parameters"]) == ("the rank's own device", "cpu")
        assert (of_rank["devices"], of_rank["is_split"]) == (["cpu"], True)


def test_what_deepspeed_refuses_is_refused_before_anything_starts(seen: list[dict[str, Any]]) -> None:
    message = "training.deepspeed is {'zero_optimization': {'overlap_com': True}}, which DeepSpeed refuses ("
    assert all(of_rank["refused_setting"].startswith(message) and "overlap_com" in of_rank["refused_setting"] for of_rank in seen)


def test_deepspeeds_own_groups_have_the_trainings_timeout(seen: list[dict[str, Any]]) -> None:
    assert [of_rank["timeout_s"] for of_rank in seen] == [77, 77]
