"""A LoRA adapter on top of a model, in the directory that peft writes: checked against the model, named by its content, merged into it.

Generation and evaluation serve model and adapter side by side; training starts from the sum of both. Plain LoRA on linear layers only:
what an adapter asks for beyond that would be trained on otherwise than it was generated with, so it is refused.
How to use: `adapter = read_adapter(role.adapter)`; `merge(adapter, causal_lm)`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgd_ray.data.json_text import read_object
from cgd_ray.data.models import tensor_shapes
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import file_sha256

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of peft's names of layers
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
LARGEST_RANK = 512  # that vLLM serves
BEYOND_PLAIN = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_qalora",
)
"""Settings of peft that make an adapter more than two small matrices a layer."""
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the model as it is; others (PiSSA, LoftQ, ...) change it when peft loads the adapter."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What is known without reading the weights."""

    directory: Path
    rank: int
    """R, the inner dimension of every pair of matrices."""
    scale: float
    """What their product is multiplied by before it is added to the layer's weight."""


def read_adapter(directory: str) -> Adapter:
    """Raises ValueError when the directory holds no LoRA adapter, or one that is more than plain LoRA."""
    path = Path(directory)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise ValueError(f"adapter {directory} holds no {name}; give a directory that peft has saved a LoRA adapter in")
    try:
        settings = read_object(path / CONFIG)
    except ValueError as error:
        raise ValueError(f"adapter {directory}: {error}") from None
    kind, rank, alpha = settings.get("peft_type"), settings.get("r"), settings.get("lora_alpha")
    if kind != "LORA" or not isinstance(rank, int) or not 1 <= rank <= LARGEST_RANK or not isinstance(alpha, int | float):
        raise ValueError(
            f"adapter {directory} has peft_type {kind}, r {rank} and lora_alpha {alpha}; only LORA of rank 1 to {LARGEST_RANK} is served"
        )
    for name in (name for name in BEYOND_PLAIN if settings.get(name)):
        raise ValueError(f"adapter {directory} has {name} {settings[name]!r}, which is more than plain LoRA; merge it into the model first")
    if settings.get("bias", "none") != "none" or settings.get("init_lora_weights", True) not in PLAIN_STARTS:
        beyond = {name: settings.get(name) for name in ("bias", "init_lora_weights")}
        raise ValueError(f"adapter {directory} has {beyond}, which is more than plain LoRA; merge it into the model first")
    return Adapter(directory=path, rank=rank, scale=alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def check_fits(adapter: Adapter, model: str) -> None:
    """Raise ValueError unless every layer of the adapter is one of the model's, of its shape; of hub models only the engine knows."""
    try:
        halves = _without_prefix(tensor_shapes(adapter.directory / WEIGHTS))
    except ValueError as error:
        raise ValueError(f"adapter {adapter.directory}: {error}") from None
    if not Path(model).is_dir():
        return
    weights: dict[str, list[int]] = {}
    for file in Path(model).glob("*.safetensors"):
        weights |= tensor_shapes(file)
    for name in halves:
        layer = name.removesuffix(DOWN).removesuffix(UP)
        if not {layer + DOWN, layer + UP} <= halves.keys():
            raise ValueError(f"adapter {adapter.directory} holds {name}, which is no half of a linear layer's pair; merge it first")
        (rank, inputs), (outputs, _) = halves[layer + DOWN], halves[layer + UP]
        if (rank, [outputs, inputs]) != (adapter.rank, weights.get(f"{layer}.weight")):
            raise ValueError(
                f"adapter {adapter.directory} does not fit {model}: it has {[outputs, inputs]} of rank {rank} for {layer}, which is "
                f"{weights.get(f'{layer}.weight')} there, and rank {adapter.rank} in {CONFIG}; give the adapter's own model"
            )


def adapter_identity(directory: str) -> str:
    """Names an adapter by its content; "missing" when there is none."""
    files = [Path(directory) / name for name in (CONFIG, WEIGHTS)]
    return short_hash("\0".join(file_sha256(file) for file in files)) if all(file.is_file() for file in files) else "missing"


def merge(adapter: Adapter, causal_lm: Any) -> None:
    """Add the adapter to a transformers model's weights, in place; the sum is rounded to their precision once."""
    import torch
    from safetensors.torch import load_file

    weights = _without_prefix(load_file(adapter.directory / WEIGHTS))
    with torch.no_grad():
        for name, down_RI in weights.items():  # R rank, I inputs, O outputs
            layer = name.removesuffix(DOWN)
            if layer != name:
                weight_OI, up_OR = causal_lm.get_submodule(layer).weight, weights[layer + UP]
                weight_OI.copy_(weight_OI.float() + adapter.scale * (up_OR.float() @ down_RI.float()))


def _without_prefix(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
