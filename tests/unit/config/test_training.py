"""Training settings that depend on each other: refused in one line with both values and a remedy."""

from typing import Any

import pytest
from pydantic import ValidationError

from cgd_ray.config import TrainingConfig, identity

VALIDATION: dict[str, Any] = {"fraction": 0.1, "every_steps": 5}
ANSWERED: dict[str, Any] = {**VALIDATION, "answers": {"every_steps": 6}}


@pytest.mark.parametrize(("workers", "expected"), [(3, (3, 3)), ([2, 4], (2, 4)), ((1, 1), (1, 1))])
def test_a_number_of_workers_or_a_range(workers: Any, expected: tuple[int, int]) -> None:
    training = TrainingConfig(num_workers=workers, global_batch_size=48)
    assert training.worker_range == expected
    assert TrainingConfig.model_validate(training.model_dump(mode="json")) == training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": 0}, r"0 is neither a number of workers nor \[fewest, most\]"),
        ({"num_workers": [3, 2]}, r"\[3, 2\] is neither"),
        ({"num_workers": [1, 2, 3]}, r"\[1, 2, 3\] is neither"),
        ({"num_workers": "two"}, "'two' is neither"),
        ({"num_workers": True}, "True is neither"),
        ({"deepspeed": {"bf16": {"enabled": True}}}, "bf16 is {'enabled': True}; set training.precision"),
        ({"deepspeed": {"train_batch_size": 8}}, "train_batch_size is 8; set training.global_batch_size"),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, "zero_optimization.stage is 3; set training.zero_stage"),
        ({"deepspeed": {"zero_optimization": {"offload_param": {"device": "nvme"}}}}, "offload_param is .*; set training.offload"),
        (
            {"deepspeed": {"zero_optimization": 3}},
            "zero_optimization is 3, which is no group of settings; write e.g. {overlap_comm: false}",
        ),
        ({"offload": "optimizer", "zero_stage": 0}, "offload optimizer needs zero_stage 1 or more, zero_stage is 0"),
        ({"offload": "parameters", "zero_stage": 2}, "offload parameters needs zero_stage 3 or more, zero_stage is 2"),
        ({"export": "best", "checkpoint_every_steps": 5}, "export is best but validation is null"),
        ({"export": "best", "validation": VALIDATION}, "export is best but checkpoint_every_steps is null"),
        ({"validation": {"fraction": 1.0, "every_steps": 5}}, "fraction"),
        ({"validation": {**VALIDATION, "choose_by": "pass@1"}}, "choose_by is pass@1 but answers is null"),
        ({"validation": ANSWERED}, "every_steps 6 is no multiple of checkpoint_every_steps None, .*; set checkpoint_every_steps"),
        ({"validation": ANSWERED, "checkpoint_every_steps": 4}, "answers.every_steps 6 is no multiple .* 4, .*; 8 would do"),
        ({"streaming": True, "num_epochs": 2}, "streaming is true and num_epochs is 2, but a stream passes once; set num_epochs to 1, or"),
        ({"streaming": True, "critiques": "shuffled"}, "critiques is shuffled, but a critique is swapped .*; set critiques to specific"),
        ({"streaming": True, "verdict_mix": {"right": 1.0}}, "verdict_mix is .*, but the shares are those of all records; set .* to null"),
        ({"streaming": True, "max_examples": 5}, "max_examples is 5, but a budget takes the same records whichever are finished first"),
        ({"streaming": True, "max_target_tokens": 5}, "max_target_tokens is 5, but a budget takes the same records"),
        ({"streaming": True, "validation": VALIDATION}, "validation is .*, but losses can be compared only once all held-out records are"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig(**settings)


@pytest.mark.parametrize("batch", [1, 7, 64, 840])
def test_any_batch_goes_with_any_number_of_workers(batch: int) -> None:
    training = TrainingConfig(num_workers=(8, 16), micro_batch_size=3, global_batch_size=batch)
    for workers in range(8, 17):
        places = training.micro_batches_per_step(workers) * workers * 3
        assert batch <= places < batch + workers * 3


def test_what_was_added_is_named_by_fingerprints_only_where_it_is_set() -> None:
    added: dict[str, Any] = {
        "deepspeed": {"communication_data_type": "fp32"},
        "deterministic": True,
        "collective_timeout_s": 60,
        "usable_by": ["sft"],
    }
    assert added.keys().isdisjoint(identity(TrainingConfig()))
    assert {name: identity(TrainingConfig(**added))[name] for name in added} == added


@pytest.mark.parametrize("critiques", ["specific", "generic", "verdict_only", "none"])
def test_what_is_about_one_record_alone_can_stream(critiques: Any) -> None:
    arm: Any = {"cgd": 0.8, "refined_only": 0.2}
    assert TrainingConfig(streaming=True, critiques=critiques, arm=arm, num_workers=(1, 2)).streaming


def test_the_best_can_be_exported_when_it_is_measured_and_kept() -> None:
    assert TrainingConfig(export="best", checkpoint_every_steps=5, validation=VALIDATION).export == "best"  # type: ignore[arg-type]
