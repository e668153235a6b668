"""Mixtures of experts: routers balanced as transformers' own training would, adapters where they can be, work of the active ones."""

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from cgd_ray.config import LoraConfig, TrainingConfig
from cgd_ray.data.chat import Example
from cgd_ray.training.model.attention import PACKED_ATTENTION
from cgd_ray.training.model.lora import add_adapters
from cgd_ray.training.model.loss import TargetLoss
from cgd_ray.training.model.miniature import miniature
from cgd_ray.training.model.support import check_config
from tests.unit.training.model.test_loss import CPU, batch_of

EXAMPLES = [Example(input_ids=[5, 9, 33, 4, 17, 21, 60, 8, 12], prompt_length=1), Example(input_ids=[7, 3, 44, 51, 6, 30], prompt_length=1)]


def make_mixtral(**settings: Any) -> Any:
    return miniature(CONFIG_MAPPING["mixtral"](**settings), PACKED_ATTENTION).train()


def loss_of(causal_lm: Any, *examples: Example, router_aux_loss: float | None = None) -> torch.Tensor:
    loss: torch.Tensor = TargetLoss(causal_lm, chunk_tokens=4, router_aux_loss=router_aux_loss)(**batch_of(examples).to(CPU))
    return loss


def test_with_the_models_own_coefficient_the_loss_is_that_of_transformers() -> None:
    causal_lm = make_mixtral(output_router_logits=True, router_aux_loss_coef=0.5)
    example = EXAMPLES[0]
    mine = loss_of(causal_lm, example) / (len(example.input_ids) - 1)
    ids = torch.tensor([example.input_ids])
    theirs = causal_lm(input_ids=ids, labels=ids, example_lengths=[ids.numel()])
    assert theirs.aux_loss > 0
    torch.testing.assert_close(mine, theirs.loss, rtol=1e-5, atol=0)


def test_the_setting_has_the_last_word_and_the_held_out_loss_is_without() -> None:
    plain, asking = make_mixtral(), make_mixtral(output_router_logits=True, router_aux_loss_coef=0.5)
    without = loss_of(plain, *EXAMPLES)
    assert loss_of(asking, *EXAMPLES) > without + 1
    assert torch.equal(loss_of(asking, *EXAMPLES, router_aux_loss=0.0), without)
    torch.testing.assert_close(loss_of(plain, *EXAMPLES, router_aux_loss=0.5), loss_of(asking, *EXAMPLES))
    held_out = TargetLoss(asking, chunk_tokens=4).eval()(**batch_of(EXAMPLES).to(CPU))
    assert torch.equal(held_out, without)


def test_the_routers_learn_from_it() -> None:
    causal_lm = make_mixtral()
    gradients = []
    for coefficient in (0.0, 0.5):
        causal_lm.zero_grad()
        loss_of(causal_lm, *EXAMPLES, router_aux_loss=coefficient).backward()
        gradients.append(causal_lm.model.layers[0].mlp.gate.weight.grad.clone())
    assert not torch.allclose(*gradients)


def test_an_auxiliary_loss_that_the_model_does_not_know_is_refused_before_generation() -> None:
    with pytest.raises(
        ValueError, match=r"^training.router_aux_loss is 0.1, but transformers knows none for LlamaForCausalLM; set .* to 0$"
    ):
        check_config(CONFIG_MAPPING["llama"](), "some/model", TrainingConfig(router_aux_loss=0.1))


def test_adapters_for_all_layers_are_refused_where_experts_cannot_have_any() -> None:
    with pytest.raises(
        ValueError, match=r"all-linear, but model.layers.0.mlp.experts.\w+ holds all experts of a layer .*; name the layers"
    ):
        add_adapters(make_mixtral(), LoraConfig(), seed=0)
    causal_lm = make_mixtral()
    add_adapters(causal_lm, LoraConfig(target_modules=("q_proj", "v_proj")), seed=0)
    assert any(parameter.requires_grad for parameter in causal_lm.parameters())


def test_layers_that_the_model_lacks_are_refused_before_generation() -> None:
    training = TrainingConfig(lora=LoraConfig(target_modules=("query_key_value",)))
    with pytest.raises(ValueError, match=r"target_modules \['query_key_value'\] fit no layer of the model"):
        check_config(CONFIG_MAPPING["llama"](), "some/model", training)
