"""Counts a model's numbers by building it without memory: torch's fake tensors have shapes and no content.

`python -m cgd_ray.planning.models.counting MODEL...` counts models of known_models.json again and writes them there.
How to use: `facts = count_model("path/or/name")`; `count(AutoConfig.for_model("llama"))`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cgd_ray.engines.contexts import context_of
from cgd_ray.planning.models.facts import KNOWN, ModelFacts, known_models
from cgd_ray.process.console import last_line
from cgd_ray.training.model.attention import implementation_for
from cgd_ray.training.model.experts import experts_per_token
from cgd_ray.training.model.loss import backbone_of
from cgd_ray.training.model.size import model_size

TOKENS = 256
"""Length of the sequence whose activations are counted; all that is kept grows with it in proportion."""


def count_model(model: str) -> ModelFacts:
    """Of a local directory, or of a name on the hub, whose config.json alone is fetched."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"model {model} cannot be planned with, as its config.json cannot be read ({reason}); give a directory that holds one, or a "
            "name of the hub where the hub can be reached"
        ) from None
    try:
        return count(config, _quantised_bytes(config, Path(model)))
    except Exception as error:  # whatever an architecture raises that cannot be run without content
        raise ValueError(
            f"model {model} cannot be planned with: a {config.model_type} cannot be built without its weights ({last_line(error)}); plan "
            "with a model of another family of the same size"
        ) from error


def count(config: Any, file_bytes: int | None = None) -> ModelFacts:
    """Of the causal language model that transformers makes of this config."""
    text, has_experts = config.get_text_config(), experts_per_token(config) is not None
    with FakeTensorMode():
        causal_lm = _built(config, torch.bfloat16)
        size = model_size(causal_lm)
        layers = next(part for part in backbone_of(causal_lm).modules() if isinstance(part, torch.nn.ModuleList))
        parameters = list(causal_lm.parameters())
        saved = {"bf16": _saved_bytes(config, torch.bfloat16) / TOKENS}
        # grouped products of fp32 are not known to fake tensors; norms are kept in fp32 anyway, so twice as much is the most
        saved["fp32"] = 2 * saved["bf16"] if has_experts else _saved_bytes(config, torch.float32) / TOKENS
    return ModelFacts(
        size=size,
        largest_parameter=max(parameter.numel() for parameter in parameters),
        largest_layer=max(sum(parameter.numel() for parameter in layer.parameters()) for layer in layers),
        num_layers=len(layers),
        num_attention_heads=getattr(text, "num_attention_heads", None) or 1,
        num_key_value_heads=_key_value_heads(text),
        kv_elements_per_token=size.num_attention_layers * _kv_elements(text),
        vocabulary_size=text.vocab_size,
        longest_context=context_of(text),
        saved_bytes_per_token=saved,
        file_bytes=file_bytes,
    )


def _key_value_heads(text: Any) -> int:
    return int(getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", None) or 1)


def _kv_elements(text: Any) -> int:
    """Of a token in one layer's cache. DeepSeek's keeps what keys and values are made from."""
    if (rank := getattr(text, "kv_lora_rank", None)) is not None:
        return int(rank + text.qk_rope_head_dim)
    head_size = getattr(text, "head_dim", None) or text.hidden_size // (getattr(text, "num_attention_heads", None) or 1)
    return int(2 * _key_value_heads(text) * head_size)


def _built(config: Any, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    causal_lm = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=implementation_for(config))
    if experts_per_token(config) is not None:
        causal_lm.set_experts_implementation("grouped_mm")  # the others ask which experts were chosen, which without content nobody knows
    return causal_lm.train()


def _saved_bytes(config: Any, dtype: torch.dtype) -> float:
    """Bytes of all that autograd keeps of a forward pass over TOKENS tokens, each memory once, weights left out."""
    causal_lm = _built(config, dtype)
    weights = {parameter.untyped_storage()._cdata for parameter in causal_lm.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, so that its address is no other's
        return tensor

    packed: dict[str, Any] = {"example_lengths": [TOKENS]} if implementation_for(config) is not None else {}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone_of(causal_lm)(
            input_ids=torch.zeros(1, TOKENS, dtype=torch.long), position_ids=torch.arange(TOKENS)[None], use_cache=False, **packed
        )
    return float(sum(storage.nbytes() for storage in kept.values()))


def _quantised_bytes(config: Any, directory: Path) -> int | None:
    """Of weights that are stored in fewer bits than any precision of this project; None where they are not, or not here."""
    if getattr(config, "quantization_config", None) is None or not directory.is_dir():
        return None
    return sum(file.stat().st_size for file in directory.glob("*.safetensors")) or None


def main(names: list[str]) -> int:
    """Count models of known_models.json again."""
    from transformers import AutoConfig

    path = Path(__file__).with_name(KNOWN)
    models = {name: dict(model) for name, model in known_models().items()}
    for name in names or models:
        models[name]["facts"] = count(AutoConfig.for_model(**models[name]["config"])).as_dict()
    path.write_text(json.dumps(models, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
