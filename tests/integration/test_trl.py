"""The loss is the one that TRL's SFTTrainer computes, which users would train with otherwise."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from cgd_ray.training.feed.rows import make_batch
from cgd_ray.training.model.attention import PACKED_ATTENTION
from cgd_ray.training.model.loss import TargetLoss
from tests.builders import random_examples, tiny_model


@pytest.mark.parametrize("loss_type", ["nll", "chunked_nll"])
def test_the_packed_loss_and_its_gradient_are_trls_on_the_same_examples(loss_type: str, tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "model", dtype=torch.float32)
    examples = list(random_examples(12).values())
    rows = [
        {"input_ids": item.input_ids, "completion_mask": [int(at >= item.prompt_length) for at in range(len(item.input_ids))]}
        for item in examples
    ]
    theirs = AutoModelForCausalLM.from_pretrained(path)
    trainer = SFTTrainer(
        model=theirs,
        args=SFTConfig(
            output_dir=str(tmp_path),
            loss_type=loss_type,
            completion_only_loss=True,
            per_device_train_batch_size=len(rows),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(path),
    )
    (padded,) = trainer.get_train_dataloader()
    their_loss = trainer.compute_loss(theirs, padded)
    their_loss.backward()

    targets = sum(len(item.input_ids) - item.prompt_length for item in examples)
    ours = TargetLoss(AutoModelForCausalLM.from_pretrained(path, attn_implementation=PACKED_ATTENTION), chunk_tokens=targets // 3)
    batch = make_batch(
        torch.tensor([token for item in examples for token in item.input_ids]).numpy(),
        torch.tensor([len(item.input_ids) for item in examples]).numpy(),
        torch.tensor([item.prompt_length for item in examples]).numpy(),
    )
    our_loss = ours(**batch.to(torch.device("cpu"))) / len(batch.target_ids_N)
    our_loss.backward()

    torch.testing.assert_close(our_loss, their_loss.float(), rtol=1e-5, atol=0)
    for (name, mine), other in zip(ours.causal_lm.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
