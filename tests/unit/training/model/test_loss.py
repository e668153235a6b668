"""The loss against oracles: packed == one by one == transformers' own, chunked == all logits at once, every target weighs the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, Qwen3ForCausalLM

from cgd_ray.data.chat import Example
from cgd_ray.training.feed.rows import Batch, make_batch
from cgd_ray.training.model.attention import PACKED_ATTENTION
from cgd_ray.training.model.loss import TargetLoss
from tests.builders import random_examples, tiny_config

EXAMPLES = list(random_examples(6, longest=40).values())
NUM_TARGETS = sum(len(example.input_ids) - example.prompt_length for example in EXAMPLES)
CPU = torch.device("cpu")


def make_model(implementation: str = PACKED_ATTENTION, dtype: torch.dtype = torch.float32, **overrides: Any) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    return Qwen3ForCausalLM._from_config(tiny_config(**overrides), attn_implementation=implementation, dtype=dtype)


def batch_of(examples: Sequence[Example]) -> Batch:
    return make_batch(
        np.concatenate([example.input_ids for example in examples]),
        np.array([len(example.input_ids) for example in examples]),
        np.array([example.prompt_length for example in examples]),
    )


def packed_loss(model: PreTrainedModel, examples: Sequence[Example], chunk_tokens: int = NUM_TARGETS) -> torch.Tensor:
    loss: torch.Tensor = TargetLoss(model, chunk_tokens=chunk_tokens)(**batch_of(examples).to(CPU))
    return loss


def labels_loss(model: Qwen3ForCausalLM, example: Example) -> torch.Tensor:
    """What transformers computes from labels that are -100 on the prompt; it gives the mean, which is made a sum here."""
    ids = torch.tensor([example.input_ids])
    labels = ids.clone()
    labels[0, : example.prompt_length] = -100
    loss: torch.Tensor = model(input_ids=ids, labels=labels).loss * (len(example.input_ids) - example.prompt_length)
    return loss


def gradients(model: Qwen3ForCausalLM, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same_gradients(ones: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    """Within 1e-5 of each tensor's largest entry: single entries are sums whose terms cancel."""
    assert ones.keys() == others.keys()
    for name, one in ones.items():
        scale = others[name].abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(one, others[name], rtol=1e-5, atol=1e-5 * scale, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("chunk_tokens", [1, 7, NUM_TARGETS])
def test_the_losses_of_the_targets_add_up_to_the_sum_and_leave_no_trace(chunk_tokens: int) -> None:
    loss, inputs = TargetLoss(make_model(), chunk_tokens=chunk_tokens), batch_of(EXAMPLES).to(CPU)
    each = loss.token_losses(**inputs)
    assert each.shape == (NUM_TARGETS,)
    assert not each.requires_grad
    torch.testing.assert_close(each.sum(), loss(**inputs).detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_packed_loss_and_gradients_are_those_of_transformers_one_by_one(tied: bool) -> None:
    packed, plain = (make_model(implementation, tie_word_embeddings=tied) for implementation in (PACKED_ATTENTION, "eager"))
    together = packed_loss(packed, EXAMPLES)
    alone = torch.stack([labels_loss(plain, example) for example in EXAMPLES]).sum()
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)
    assert_same_gradients(gradients(packed, together), gradients(plain, alone))


@pytest.mark.parametrize("chunk_tokens", [1, 7, NUM_TARGETS - 1, NUM_TARGETS + 3])
def test_chunked_loss_and_gradients_are_those_of_all_logits_at_once(chunk_tokens: int) -> None:
    model = make_model()
    whole, chunked = packed_loss(model, EXAMPLES), packed_loss(model, EXAMPLES, chunk_tokens)
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=0)
    assert_same_gradients(gradients(model, chunked), gradients(model, whole))


def test_every_target_token_weighs_the_same_however_examples_are_grouped() -> None:
    model = make_model()
    halves = [EXAMPLES[:1], EXAMPLES[1:]]
    sums = [packed_loss(model, half).item() for half in halves]
    counts = [batch_of(half).target_ids_N.numel() for half in halves]
    assert counts[0] != counts[1]
    logits = [model(input_ids=torch.tensor([item.input_ids]), example_lengths=[len(item.input_ids)]).logits[0] for item in EXAMPLES]
    per_token = [
        torch.nn.functional.cross_entropy(
            row[item.prompt_length - 1 : -1], torch.tensor(item.input_ids[item.prompt_length :]), reduction="none"
        )
        for row, item in zip(logits, EXAMPLES, strict=True)
    ]
    assert sum(sums) / sum(counts) == pytest.approx(torch.cat(per_token).mean().item(), rel=1e-5)


def test_a_batch_without_targets_has_no_loss_touches_no_weight_and_takes_the_same_way() -> None:
    model = make_model()
    loss = packed_loss(model, [Example(input_ids=[5], prompt_length=1)])
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients(model, loss).values())


@pytest.mark.parametrize("chunk_tokens", [10, NUM_TARGETS])
def test_logits_are_made_for_targets_alone_and_for_a_chunk_at_once(chunk_tokens: int) -> None:
    model = make_model()
    sizes: list[int] = []
    run_layer = model.lm_head.forward

    def counting(hidden: torch.Tensor) -> torch.Tensor:
        sizes.append(len(hidden))
        return run_layer(hidden)

    model.lm_head.forward = counting
    with torch.no_grad():
        packed_loss(model, EXAMPLES, chunk_tokens)
    assert (max(sizes), sum(sizes)) == (chunk_tokens, NUM_TARGETS)


def test_the_sum_is_fp32_under_bf16_weights() -> None:
    loss = packed_loss(make_model(dtype=torch.bfloat16), EXAMPLES)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(packed_loss(make_model(), EXAMPLES).item(), rel=0.02)
