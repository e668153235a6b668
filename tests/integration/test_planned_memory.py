"""What a plan says of parameters, gradients and optimizer is what DeepSpeed allocates for them, stage by stage."""

import gc
import json
from itertools import product
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from cgd_ray.config import TrainingConfig
from cgd_ray.planning.memory.training import state_bytes
from cgd_ray.planning.models.counting import count
from cgd_ray.training.meeting import Meeting
from cgd_ray.training.model.zero import ZeroEngine, use_accelerator
from tests.builders import tiny_model
from tests.distributed import run_ranks

WORLD_SIZE, TOKENS = 2, 32
SETTINGS = [f"{precision} {stage}" for precision, stage in product(("bf16", "fp32"), range(4))]


def training_of(setting: str) -> TrainingConfig:
    precision, stage = setting.split()
    return TrainingConfig.model_validate(
        {"precision": precision, "zero_stage": int(stage), "num_workers": WORLD_SIZE, "global_batch_size": 2 * WORLD_SIZE}
    )


def live_bytes() -> dict[int, int]:
    """Of every memory that a tensor lies in, by its address."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if isinstance(found, torch.Tensor) and found.device.type == "cpu"]
    return {found.untyped_storage().data_ptr(): found.untyped_storage().nbytes() for found in tensors}


def backward(engine: ZeroEngine) -> None:
    """A micro-batch of one example, half of it target."""
    inputs = {
        "input_ids_1T": torch.arange(3, 3 + TOKENS)[None],
        "position_ids_1T": torch.arange(TOKENS)[None],
        "example_lengths": [TOKENS],
        "positions_N": torch.arange(TOKENS // 2),
        "target_ids_N": torch.arange(3, 3 + TOKENS // 2),
    }
    engine.backward(engine.forward(inputs), TOKENS)


def observe(root: Path, model: str) -> None:
    """Run on each rank: what tensors hold in the second step, before its update, for each setting."""
    use_accelerator(False)
    meeting, held = Meeting(), {}
    for setting in SETTINGS:
        before = live_bytes()
        engine = ZeroEngine(training_of(setting), model, meeting)
        for _ in range(2):
            backward(engine)
            engine.end_micro_batch(1e-3)
        backward(engine)
        gradients = [parameter.grad for parameter in engine.causal_lm.parameters()]  # of those that Python has not seen gc knows nothing
        held[setting] = sum(size for address, size in live_bytes().items() if address not in before)
        del engine, gradients
    (root / f"held-{meeting.rank}.json").write_text(json.dumps(held))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), hidden_size=256, intermediate_size=512, num_hidden_layers=4)


@pytest.fixture(scope="module")
def held(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    root = tmp_path_factory.mktemp("ranks")
    run_ranks(WORLD_SIZE, root / "meet", observe, root, str(model))
    ranks = [json.loads((root / f"held-{rank}.json").read_text()) for rank in range(WORLD_SIZE)]
    return {setting: max(rank[setting] for rank in ranks) for setting in SETTINGS}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_rank_holds_what_is_planned(setting: str, model: Path, held: dict[str, int]) -> None:
    facts, training = count(AutoConfig.from_pretrained(model)), training_of(setting)
    planned = sum(state_bytes(training, facts, WORLD_SIZE).values())
    bucket = (2 if training.precision == "bf16" else 4) * facts.size.num_parameters if training.zero_stage == 3 else 0
    assert planned + bucket == pytest.approx(held[setting], rel=0.02)  # ZeRO-3 keeps its bucket, which holds all of so small a model
