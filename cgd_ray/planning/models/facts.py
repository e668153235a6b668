"""What a plan needs to know of a model: a few numbers, from its config alone; no weights are loaded.

Those of the recipes' models ship with the package (known_models.json, made by `python -m cgd_ray.planning.models.counting`), so they are
planned without a network and in a second; any other model is built on no device and counted (counting.py).
How to use: `facts = facts_of(config.student.model)`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from cgd_ray.training.observe.work import ModelSize

KNOWN = "known_models.json"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """One model's numbers. Elements are counted, not bytes, but where it says so."""

    size: ModelSize
    """Its parameters and the work of a token under training."""
    largest_parameter: int
    """Its gradient exists whole for a moment, on each rank."""
    largest_layer: int
    """Parameters of the largest block: what ZeRO-3 gathers at once at least."""
    num_layers: int
    num_attention_heads: int
    """The GPUs of an engine must divide them."""
    num_key_value_heads: int
    """More GPUs than that share an engine's KV cache no further."""
    kv_elements_per_token: int
    """Keys and values of all layers that keep them."""
    vocabulary_size: int
    longest_context: int | None
    """Tokens that it was made for; None where its config does not say."""
    saved_bytes_per_token: Mapping[str, float]
    """What the forward pass keeps for the backward pass, in bf16 and in fp32, without activation checkpointing."""
    file_bytes: int | None = None
    """Of the weights as they are stored, where they are quantised; None where an engine holds them in its own precision."""

    @property
    def forward_flops(self) -> float:
        """Of a token that an engine reads or writes, but for its attention: 2 for each weight that it passes."""
        return (self.size.flops_per_token + self.size.flops_per_target) / 3

    def as_dict(self) -> dict[str, Any]:
        """For known_models.json and plan.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> "ModelFacts":
        """The reverse."""
        return cls(**{**numbers, "size": ModelSize(**numbers["size"])})


@cache
def known_models() -> Mapping[str, Mapping[str, Any]]:
    """By their names on the hub: what transformers' config needs (`config`) and what was counted with it (`facts`)."""
    models: Mapping[str, Mapping[str, Any]] = json.loads(files(__package__).joinpath(KNOWN).read_text(encoding="utf-8"))
    return models


def facts_of(model: str) -> tuple[ModelFacts, str]:
    """The numbers of a local directory or a model of the hub, and where they come from.

    Raises ValueError where there is no config to count.
    """
    if model in known_models() and not Path(model).is_dir():
        return ModelFacts.from_dict(known_models()[model]["facts"]), "known model"
    from cgd_ray.planning.models.counting import count_model

    return count_model(model), "counted from its config"
