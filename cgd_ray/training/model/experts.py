"""Mixtures of experts: the routers' auxiliary loss, and which weights belong to experts.

How to use: `coefficient = router_aux_loss_of(causal_lm, training.router_aux_loss)`; `balancing_loss(causal_lm, [output.router_logits])`.
"""

import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

_PER_TOKEN = ("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts")  # names of one number in configs


def router_aux_loss_of(causal_lm: Any, setting: float | None) -> float:
    """Coefficient of the routers' auxiliary loss: the setting, or where it is null what transformers' own training of the model takes.

    Raises ValueError where one is asked for that transformers does not know for this model.
    """
    config = causal_lm.config.get_text_config()
    asked = getattr(config, "output_router_logits", False)
    coefficient = setting if setting is not None else (getattr(config, "router_aux_loss_coef", None) or 0.0) if asked else 0.0
    if coefficient > 0 and _balancing(causal_lm) is None:
        shown = f"training.router_aux_loss is {setting}" if setting is not None else "its config asks for an auxiliary loss"
        raise ValueError(f"{shown}, but transformers knows none for {type(causal_lm).__name__}; set training.router_aux_loss to 0")
    return coefficient


def balancing_loss(causal_lm: Any, router_logits: Sequence[tuple[torch.Tensor, ...]]) -> torch.Tensor:
    """The auxiliary loss over all tokens of a micro-batch, from each pass's logits by layer; 1 when all experts have the same share."""
    layers = tuple(torch.cat(parts) for parts in zip(*router_logits, strict=True))
    balancing = _balancing(causal_lm)
    assert balancing is not None, "router_aux_loss_of has refused it"
    loss: torch.Tensor = balancing(layers, layers[0].shape[-1], experts_per_token(causal_lm.config))
    return loss


def experts_per_token(config: Any) -> int | None:
    """Routed experts that one token passes; None for a model without."""
    text = config.get_text_config()
    return next((value for name in _PER_TOKEN if (value := getattr(text, name, None)) is not None), None)


def fused_experts(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The weights that hold all experts of a layer at once, [experts, ., .], by name."""
    for prefix, part in module.named_modules():
        if not isinstance(part, torch.nn.Conv1d):
            for name, parameter in part.named_parameters(prefix=prefix, recurse=False):
                if len(getattr(parameter, "ds_shape", parameter.shape)) == 3:  # ZeRO-3 shows every parameter as empty
                    yield name, parameter


def _balancing(causal_lm: Any) -> Any:
    """transformers' own function beside the model's class, if it is the one that most mixtures share."""
    function = getattr(sys.modules[type(causal_lm).__module__], "load_balancing_loss_func", None)
    if function is None or [*inspect.signature(function).parameters][:3] != ["gate_logits", "num_experts", "top_k"]:
        return None
    return function
