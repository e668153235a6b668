"""How long a context a model was made for, by the same reading of its config.json as vLLM's, which refuses anything longer.

The tokenizer's model_max_length is no measure: it is 1e30 where nobody has set it, and vLLM does not look at it.
How to use: `limit = longest_context(role.model)`.
"""

import math
from typing import Any

LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
LENGTHENED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Kinds of rotary scaling whose max_position_embeddings is what they reach, not what they start from."""


def longest_context(model: str) -> int | None:
    """Tokens that the model of this directory or hub name was made for; None where its config does not say."""
    from transformers import AutoConfig

    try:
        text = AutoConfig.from_pretrained(model).get_text_config()
    except (ValueError, KeyError):
        return None  # of an architecture that vLLM may know and transformers does not
    return context_of(text)


def context_of(text: Any) -> int | None:
    """The same of its text config."""
    own = getattr(text, "model_max_length", None)  # Command-R's
    lengths = [own] if own else [length for name in LENGTHS if (length := getattr(text, name, None)) is not None]
    return None if not lengths else math.floor(min(lengths) * _scaling(text))


def is_built_in(model_type: Any) -> bool:
    """Whether transformers has this architecture itself, so that a model's own code is not run."""
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _scaling(text: Any) -> float:
    """What rotary scaling multiplies the config's length by."""
    parameters = getattr(text, "rope_parameters", None)
    if not isinstance(parameters, dict) or "gemma3" in text.model_type:  # Gemma 3's length is scaled already
        return 1.0
    by_layer_type = [part for part in parameters.values() if isinstance(part, dict)]
    factor = 1.0
    for part in by_layer_type or [parameters]:
        if part.get("rope_type", "default") not in LENGTHENED:
            factor = part.get("factor") or factor
    return float(factor)
