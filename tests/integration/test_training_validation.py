"""Held-out loss while training, by DeepSpeed and by plain transformers; the best checkpoint is what is exported; adapters and offload."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from cgd_ray.data.chat import Example
from cgd_ray.training.checkpoints.shards import Shards
from cgd_ray.training.checkpoints.store import directory_of
from cgd_ray.training.model.zero import DTYPES
from tests.builders import packed_examples, random_examples
from tests.distributed import run_ranks
from tests.trainings import NUM_STEPS, Trainings, make_training, train_all

OVERFITTING = {"learning_rate": 3e-2, "num_epochs": 2, "warmup_fraction": 0.0}
EVERY = {"validation": {"fraction": 0.1, "every_steps": 2}}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "validated": EVERY,
    "validated-zero3": {**EVERY, "zero_stage": 3},
    "best": {**EVERY, **OVERFITTING, "export": "best", "checkpoint_every_steps": 1, "keep_checkpoints": 1},
    "offload-optimizer": {"offload": "optimizer"},
    "offload-parameters": {"offload": "parameters", "zero_stage": 3},
}
RANK = 4
LORA: dict[str, Any] = {"lora": {"rank": RANK, "alpha": 8.0, "dropout": 0.1}, "learning_rate": 1e-2}
ADAPTED: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "lora-zero3": {**LORA, "zero_stage": 3},
    "lora-bf16": {**LORA, "precision": "bf16"},
    "lora-bf16-zero3": {**LORA, "precision": "bf16", "zero_stage": 3},
}


@pytest.fixture(scope="module")
def held_out() -> dict[str, Example]:
    """Fewer examples than the ranks have places for."""
    return random_examples(7, seed=9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, held_out: dict[str, Example]) -> Trainings:
    trainings = Trainings.make(tmp_path_factory.mktemp("validation"))
    validation = str(packed_examples(trainings.root / "held-out", make_training(), held_out))
    jobs = [replace(trainings.job(name, **chosen), validation=validation) for name, chosen in (SETTINGS | ADAPTED).items()]
    jobs = [job if job.training["validation"] else replace(job, validation=None) for job in jobs]
    run_ranks(2, trainings.root / "meet", train_all, jobs)
    return trainings


def loss_of(model: Path, examples: dict[str, Example]) -> float:
    """By transformers alone: mean over the target tokens of all examples."""
    causal_lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    total, count = 0.0, 0
    for example in examples.values():
        ids = torch.tensor(example.input_ids)
        with torch.no_grad():
            logits = causal_lm(ids[None]).logits[0]
        first = max(example.prompt_length, 1)
        total += torch.nn.functional.cross_entropy(logits[first - 1 : -1], ids[first:], reduction="sum").item()
        count += len(ids) - first
    return total / count


def validation_losses(trained: Trainings, name: str) -> dict[int, float]:
    return {int(line["train/step"]): line["validation/loss"] for line in trained.metrics(name) if "validation/loss" in line}


@pytest.mark.parametrize("name", ["validated", "validated-zero3"])
def test_the_held_out_loss_is_that_of_the_exported_student(trained: Trainings, held_out: dict[str, Example], name: str) -> None:
    losses = validation_losses(trained, name)
    assert list(losses) == [2, 4, 6]
    assert losses[NUM_STEPS] == pytest.approx(loss_of(trained.root / name / "model", held_out), rel=1e-5)


def test_validating_does_not_change_the_training(trained: Trainings) -> None:
    assert trained.losses("validated") == trained.losses("plain")
    assert trained.losses("validated-zero3") == pytest.approx(trained.losses("plain"), rel=1e-5)


def test_the_checkpoint_with_the_least_held_out_loss_is_kept_and_exported(trained: Trainings, held_out: dict[str, Example]) -> None:
    losses = validation_losses(trained, "best")
    best = min(losses, key=lambda step: losses[step])
    assert list(losses) == list(range(1, NUM_STEPS + 1))
    assert best < NUM_STEPS, losses
    kept = sorted(path.name for path in (trained.root / "best" / "checkpoints").glob("step-*"))
    assert kept == [f"step-{best:08d}", f"step-{NUM_STEPS:08d}"]
    assert loss_of(trained.root / "best" / "model", held_out) == pytest.approx(losses[best], rel=1e-5)


@pytest.mark.parametrize("name", ["offload-optimizer", "offload-parameters"])
def test_where_the_state_is_kept_does_not_change_the_numbers(trained: Trainings, name: str) -> None:
    assert trained.losses(name) == pytest.approx(trained.losses("plain"), rel=1e-5)


def test_a_steps_time_is_accounted_for(trained: Trainings) -> None:
    for line in trained.metrics("plain"):
        parts = [line[f"time/{phase}_s"] for phase in ("data", "forward", "backward", "optimizer")]
        assert all(seconds > 0 for seconds in parts)
        assert sum(parts) <= line["time/step_s"]
        assert 0 < line["time/communication_s"] < line["time/step_s"]
        assert line["train/target_tokens_per_s"] == pytest.approx(line["train/target_tokens"] / line["time/step_s"])
        assert line["memory/peak_gib"] > 0.1
        assert "train/mfu" not in line  # a CPU's peak is not known


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_learn_and_are_merged_into_a_student_of_the_usual_shape(trained: Trainings, name: str) -> None:
    assert trained.losses(name)[-1] < trained.losses(name)[0] - 0.03
    initial, merged = load_file(Path(trained.model) / "model.safetensors"), trained.weights(name)
    assert merged.keys() == initial.keys()
    changed = {weight for weight in merged if not torch.equal(merged[weight], initial[weight].to(merged[weight].dtype))}
    assert changed == {weight for weight in merged if "_proj" in weight}
    if ADAPTED[name].get("precision") != "bf16":  # rounding the sum to bf16 leaves no low rank
        assert all(torch.linalg.matrix_rank(merged[weight] - initial[weight], atol=1e-4) <= RANK for weight in changed)


@pytest.mark.parametrize(
    ("name", "other", "tolerance"), [("lora-zero3", "lora", 1e-5), ("lora-bf16", "lora", 3e-4), ("lora-bf16-zero3", "lora-bf16", 3e-4)]
)
def test_adapters_learn_the_same_in_every_stage_and_precision(trained: Trainings, name: str, other: str, tolerance: float) -> None:
    assert trained.losses(name) == pytest.approx(trained.losses(other), rel=tolerance)
    dtypes = {weight.dtype for weight in trained.weights(name).values()}
    assert dtypes == {DTYPES[ADAPTED[name].get("precision", "fp32")]}


@pytest.mark.parametrize("name", ADAPTED)
def test_a_checkpoints_files_alone_hold_the_adapters_to_merge(trained: Trainings, name: str) -> None:
    from_files, exported = trained.from_files(name, NUM_STEPS, **ADAPTED[name]), trained.weights(name)
    assert from_files.keys() == exported.keys()
    assert all(torch.equal(from_files[weight].to(exported[weight].dtype), exported[weight]) for weight in exported)


@pytest.mark.parametrize("name", ADAPTED)
def test_the_exported_student_is_what_peft_merges(trained: Trainings, name: str) -> None:
    dtype = DTYPES[ADAPTED[name].get("precision", "fp32")]
    base = AutoModelForCausalLM.from_pretrained(trained.model, dtype=dtype).float()  # merged in fp32, as the export does
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=RANK, lora_alpha=LORA["lora"]["alpha"], target_modules="all-linear"))
    shards = Shards(directory_of(trained.root / name / "checkpoints", NUM_STEPS))
    with torch.no_grad():
        for weight, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                values = shards.read("weight", weight.removeprefix("base_model.model."), 0, parameter.numel())
                parameter.copy_(values.view_as(parameter).to(dtype))
    merged, exported = adapted.merge_and_unload().state_dict(), trained.weights(name)
    for weight, value in exported.items():
        torch.testing.assert_close(value, merged[weight].to(dtype))
