"""A model of the same architecture that is small enough to be tried on any CPU in less than a second.

It has fewer layers (one of each kind), heads, experts and tokens, and narrower layers; what decides how it computes stays: the size of a
head, grouped heads, rotary scaling, soft caps, scales, biases. Windows shrink, so that short examples reach beyond them.
How to use: `causal_lm = miniature(AutoConfig.from_pretrained(model), attention)`.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch

VOCABULARY_SIZE = 64
_MOST = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY_SIZE),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("sliding_window", "attention_chunk_size", "window_size"), 4),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size"), 8),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
}
_WIDTHS = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")  # or names that end so
_WIDTH = 32


def miniature(config: Any, attention: str | None) -> Any:
    """A randomly initialised causal language model in fp32, in evaluation mode; `config` stays as it is.

    Raises whatever transformers raises where an architecture has bounds that this does not know.
    """
    from transformers import AutoModelForCausalLM

    small = copy.deepcopy(config)
    _shrink(small.get_text_config())
    for name in config.sub_configs:  # what sees images or sounds is built and never run
        if (part := getattr(small, name, None)) is not None and part is not small.get_text_config():
            part.num_hidden_layers = 1
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        causal_lm = AutoModelForCausalLM.from_config(small, attn_implementation=attention, dtype=torch.float32)
        for parameter in causal_lm.parameters():  # strong enough that every layer has a say
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return causal_lm.eval()


def _shrink(text: Any) -> None:
    """Make a text config small, in place."""
    for name, value in list(vars(text).items()):
        if name.endswith(_WIDTHS) and isinstance(value, int):
            setattr(text, name, min(value, _WIDTH))
    for name, most in _MOST.items():
        value = getattr(text, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            setattr(text, name, min(value, most))
    layers = _kinds_of_layers(text)
    for name, values in _by_layer(text).items():
        setattr(text, name, [values[layer] for layer in layers])
    text.num_hidden_layers = len(layers)
    num_heads, size = text.num_attention_heads, text.hidden_size // text.num_attention_heads
    num_key_heads = getattr(text, "num_key_value_heads", None) or num_heads
    few_key_heads = min(num_key_heads, 2)
    few_heads = few_key_heads * min(num_heads // num_key_heads, 2)
    if getattr(text, "num_key_value_heads", None) is not None:
        text.num_key_value_heads = few_key_heads
    text.num_attention_heads, text.hidden_size = few_heads, size * few_heads
    if getattr(text, "mamba_d_head", None):  # Mamba's heads make up an expanded hidden state
        text.mamba_d_head = text.mamba_expand * text.hidden_size // text.mamba_n_heads


def _by_layer(text: Any) -> dict[str, Sequence[Any]]:
    """The fields that say something of each layer."""
    return {
        name: value
        for name, value in vars(text).items()
        if isinstance(value, list | tuple) and len(value) == text.num_hidden_layers and not name.startswith("_")
    }


def _kinds_of_layers(text: Any) -> list[int]:
    """The first layer of each kind, and at least two."""
    first: dict[str, int] = {}
    for layer in range(text.num_hidden_layers):
        first.setdefault(str([values[layer] for values in _by_layer(text).values()]), layer)
    layers = sorted(first.values())
    return layers if len(layers) > 1 else [0, text.num_hidden_layers - 1]
