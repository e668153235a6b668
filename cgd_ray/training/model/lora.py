"""Low-rank adapters by peft: put into a model for training, and merged into its weights for the export; the only file that imports peft.

peft replaces each chosen layer by one that holds it as `base_layer` beside its adapter, so names of weights change while training.
How to use: `add_adapters(causal_lm, training.lora, seed)`; then `for item in exported_weights(causal_lm): item.value()`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cgd_ray.config import LoraConfig
from cgd_ray.training.model.experts import fused_experts

ADAPTER = "default"  # peft's own name for the only one


@dataclass(frozen=True, kw_only=True)
class ExportedWeight:
    """A weight of the trained student."""

    name: str
    """As in a model without adapters."""
    parameters: list[torch.nn.Parameter]
    """What has to be whole on this process before value() is called."""
    value: Callable[[], torch.Tensor]
    """The weight, with its adapter merged in; fp32 when there is one."""


def add_adapters(causal_lm: Any, lora: LoraConfig, seed: int) -> None:
    """Freeze the model and give it adapters, in place.

    Raises ValueError when no layer has one of the names, and when all layers are asked for but the experts cannot have any.
    """
    import peft

    experts = next((name for name, _ in fused_experts(causal_lm)), None)
    if experts is not None and lora.target_modules == "all-linear":
        raise ValueError(
            f"training.lora.target_modules is all-linear, but {experts} holds all experts of a layer as one weight, which gets no adapter; "
            "name the layers, for instance [q_proj, k_proj, v_proj, o_proj]"
        )
    torch.manual_seed(seed)  # every rank starts from the same adapters
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    settings = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    try:
        peft.inject_adapter_in_model(settings, causal_lm)
    except ValueError as error:
        raise ValueError(f"training.lora.target_modules {targets} fit no layer of the model ({error}); name layers it has") from None


def exported_weights(causal_lm: Any) -> Iterator[ExportedWeight]:
    """Every weight, a tied one once, with or without adapters."""
    for name, parameter in causal_lm.named_parameters():
        if ".lora_" in name:
            continue
        prefix, is_wrapped, leaf = name.rpartition(".base_layer.")
        if is_wrapped and leaf == "weight":
            yield _merged(f"{prefix}.weight", parameter, causal_lm.get_submodule(prefix))
        else:
            yield ExportedWeight(name=f"{prefix}.{leaf}" if is_wrapped else name, parameters=[parameter], value=parameter.detach)


def _merged(name: str, base: torch.nn.Parameter, layer: Any) -> ExportedWeight:
    down_RI, up_OR = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight  # R rank, I inputs, O outputs
    return ExportedWeight(
        name=name,
        parameters=[base, down_RI, up_OR],
        value=lambda: base.detach().float() + layer.scaling[ADAPTER] * (up_OR.detach().float() @ down_RI.detach().float()),
    )
