"""The work of a model is what torch counts of its matrix products, forward and backward."""

from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING

from cgd_ray.config import LoraConfig
from cgd_ray.data.chat import Example
from cgd_ray.training.model.lora import add_adapters
from cgd_ray.training.model.loss import TargetLoss
from cgd_ray.training.model.miniature import miniature
from cgd_ray.training.model.size import model_size
from cgd_ray.training.observe.work import model_flops
from tests.unit.training.model.test_loss import CPU, batch_of

EXAMPLE = Example(input_ids=list(range(3, 51)), prompt_length=30)
TOKENS, TARGETS = len(EXAMPLE.input_ids), len(EXAMPLE.input_ids) - EXAMPLE.prompt_length


def counted(causal_lm: Any) -> float:
    """By torch; eager attention makes the whole square, so it is twice what a causal one needs."""
    loss = TargetLoss(causal_lm.train(), chunk_tokens=TARGETS)
    with FlopCounterMode(display=False) as counter:
        loss(**batch_of([EXAMPLE]).to(CPU)).backward()
    return float(counter.get_total_flops())


def predicted(causal_lm: Any) -> float:
    return model_flops(model_size(causal_lm), TOKENS, TARGETS, 2 * TOKENS**2)


@pytest.mark.parametrize(
    ("family", "tied"), [("llama", True), ("llama", False), ("qwen3", False), ("mixtral", False), ("qwen2_moe", False)]
)
def test_work_counts_targets_in_the_output_layer_and_active_experts_alone(family: str, tied: bool) -> None:
    causal_lm = miniature(CONFIG_MAPPING[family](tie_word_embeddings=tied, sliding_window=None), "eager")
    causal_lm.set_experts_implementation("eager")  # torch does not count grouped products
    assert predicted(causal_lm) == pytest.approx(counted(causal_lm), rel=0.02)


def test_frozen_weights_cost_two_thirds() -> None:
    causal_lm = miniature(CONFIG_MAPPING["llama"](), "eager")
    whole = model_size(causal_lm)
    add_adapters(causal_lm, LoraConfig(rank=1), seed=0)
    adapted = model_size(causal_lm)
    assert adapted.flops_per_target == pytest.approx(whole.flops_per_target * 2 / 3)
    assert adapted.flops_per_token == pytest.approx(whole.flops_per_token * 2 / 3, rel=0.05)
    attention = causal_lm.model.layers[0].self_attn  # nothing before it is trained, so its inputs need no gradient
    first = sum(layer.base_layer.weight.numel() for layer in (attention.q_proj, attention.k_proj, attention.v_proj))
    assert predicted(causal_lm) - 2 * TOKENS * first == pytest.approx(counted(causal_lm), rel=0.02)


def test_a_window_bounds_what_a_token_sees() -> None:
    size = model_size(
        miniature(CONFIG_MAPPING["mistral"](sliding_window=4, layer_types=["full_attention", "sliding_attention"] * 16), "eager")
    )
    assert (size.num_attention_layers, size.num_sliding_layers, size.sliding_window) == (2, 1, 4)
    lengths = [3, 40]
    tokens, squares = sum(lengths), sum(length**2 for length in lengths)
    seen = squares + min(squares, 2 * tokens * 4)
    expected = size.flops_per_token * tokens + 6 * size.attention_width * seen
    assert model_flops(size, tokens, 0, squares) == pytest.approx(expected)
