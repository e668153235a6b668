"""Packed attention is each example's own causal attention, forward and backward, with and without a sliding window."""

from typing import Any

import pytest
import torch
from transformers import Qwen3ForCausalLM

from cgd_ray.training.model.attention import PACKED_ATTENTION
from tests.builders import VOCABULARY_SIZE, tiny_config

LENGTHS = [5, 1, 17, 8]
SLIDING = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "layer_types": ["full_attention", "sliding_attention"]}


def make_pair(**overrides: Any) -> tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]:
    """The same weights under packed and under eager attention."""
    models = []
    for implementation in (PACKED_ATTENTION, "eager"):
        torch.manual_seed(0)
        models.append(Qwen3ForCausalLM._from_config(tiny_config(**overrides), attn_implementation=implementation, dtype=torch.float32))
    return models[0], models[1]


def make_flat(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY_SIZE, (1, sum(LENGTHS)), generator=generator)
    return ids, torch.cat([torch.arange(length) for length in LENGTHS])[None]


def packed_logits(model: Qwen3ForCausalLM, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids, position_ids=positions, use_cache=False, example_lengths=LENGTHS).logits[0]
    return logits


@pytest.mark.parametrize("overrides", [{}, SLIDING, {"num_key_value_heads": 4}], ids=["grouped", "sliding", "ungrouped"])
def test_packed_attention_and_its_gradients_are_those_of_each_example_alone_under_eager_attention(overrides: dict[str, Any]) -> None:
    packed, eager = make_pair(**overrides)
    ids, positions = make_flat()
    together = packed_logits(packed, ids, positions)
    alone = torch.cat([eager(input_ids=part, use_cache=False).logits[0] for part in ids.split(LENGTHS, dim=1)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    for logits in (together, alone):
        logits.square().mean().backward()
    theirs = dict(eager.named_parameters())
    for name, parameter in packed.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_the_window_makes_a_difference_here() -> None:
    ids, positions = make_flat()
    windowed, whole = (packed_logits(make_pair(**overrides)[0], ids, positions) for overrides in (SLIDING, {}))
    assert torch.equal(windowed[:4], whole[:4])
    assert not torch.allclose(windowed[20], whole[20], atol=1e-3)


def test_no_example_sees_another() -> None:
    model, _ = make_pair()
    ids, positions = make_flat()
    before = packed_logits(model, ids, positions)
    ids[0, 7] = (ids[0, 7] + 1) % VOCABULARY_SIZE  # inside the third example
    after = packed_logits(model, ids, positions)
    changed = (before != after).any(dim=1).nonzero().flatten().tolist()
    assert changed == list(range(7, 5 + 1 + 17))
