"""How large a model under training is, and what work each of its tokens costs.

How to use: `model_size(causal_lm)`, once adapters are in and the rest is frozen.
"""

from typing import Any

import torch

from cgd_ray.training.model.experts import experts_per_token, fused_experts
from cgd_ray.training.model.loss import backbone_of
from cgd_ray.training.observe.work import FORWARD_AND_BACKWARD, FROZEN, ModelSize

_WITHOUT_ATTENTION = ("linear_attention", "conv", "mamba", "mlp", "moe", "hybrid", "recurrent")


def model_size(causal_lm: Any) -> ModelSize:
    """Of a transformers model, whole or split by ZeRO-3.

    A lookup in the input embedding costs nothing; the output layer is passed by target tokens alone, whether its weight is the embedding's
    or its own; of the routed experts, a token passes some; what sees images or sounds is not run.
    """
    config, decoder = causal_lm.config.get_text_config(), backbone_of(causal_lm)
    output = {id(parameter) for parameter in causal_lm.get_output_embeddings().parameters()}
    lookup = {id(parameter) for parameter in causal_lm.get_input_embeddings().parameters()} - output
    passed, experts = experts_per_token(config), {id(parameter) for _, parameter in fused_experts(decoder)}
    per_token = 0.0
    for parameter in decoder.parameters():
        if id(parameter) not in output | lookup:
            share = 1.0 if passed is None or id(parameter) not in experts else passed / _shape(parameter)[0]
            per_token += share * _flops(parameter)
    layers = list(getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    query_size = getattr(config, "qk_head_dim", None) or head_size  # DeepSeek's differ
    value_size = getattr(config, "v_head_dim", None) or head_size
    return ModelSize(
        num_parameters=sum(_shape(parameter).numel() for parameter in causal_lm.parameters()),
        hidden_size=config.hidden_size,
        flops_per_token=per_token,
        flops_per_target=sum(_flops(parameter) for parameter in causal_lm.get_output_embeddings().parameters()),
        attention_width=config.num_attention_heads * (query_size + value_size) // 2,
        num_attention_layers=sum(kind not in _WITHOUT_ATTENTION for kind in layers),
        num_sliding_layers=layers.count("sliding_attention"),
        sliding_window=getattr(config, "sliding_window", None),
    )


def _shape(parameter: torch.nn.Parameter) -> torch.Size:
    """ZeRO-3 shows every parameter as empty."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def _flops(parameter: torch.nn.Parameter) -> float:
    """Of a token that passes it: through a frozen one too goes the gradient of what lies before."""
    numel: int = _shape(parameter).numel()
    return numel * (FORWARD_AND_BACKWARD if parameter.requires_grad else FROZEN)
