"""Whether a student can be trained here, found out from its config alone, before anything is generated.

Built without weights, the model shows its output layer and what adapters and experts there are. A miniature of it with random weights then
shows whether the loss of two examples in one row is what transformers' own logits give for each alone, which no list of architectures
could promise: positions, masks, states, scaled logits, all of it.
How to use: `check_student(model, training)` raises a ValueError of one line.
"""

from typing import Any

import torch

from cgd_ray.config import TrainingConfig
from cgd_ray.training.model.attention import PACKED_ATTENTION, implementation_for, what_joins_examples
from cgd_ray.training.model.lora import add_adapters
from cgd_ray.training.model.loss import TargetLoss
from cgd_ray.training.model.miniature import VOCABULARY_SIZE, miniature

LENGTHS, PROMPTS = (9, 7), (3, 2)
TOLERANCE = 1e-3
"""Relative difference of losses in fp32 that is rounding; what leaks or is scaled otherwise makes a hundred times that, or more."""
REMEDY = "choose another student; docs/method.md names the families"


def check_student(model: str, training: TrainingConfig) -> None:
    """Raises ValueError when this directory or hub name holds no model that can be trained with these settings."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model)
    except (ValueError, KeyError) as error:
        raise ValueError(f"student.model {model} is of no architecture that transformers has ({str(error).splitlines()[0]})") from None
    check_config(config, model, training)


def check_config(config: Any, model: str, training: TrainingConfig) -> None:
    """check_student for a config that is loaded already; `model` is for the message."""
    named = f"student.model {model} ({config.model_type})"
    quantised = getattr(config, "quantization_config", None) or getattr(config.get_text_config(), "quantization_config", None)
    if quantised is not None:
        method = quantised["quant_method"] if isinstance(quantised, dict) else quantised.quant_method
        raise ValueError(
            f"{named} is quantised (quant_method {method}), and quantised weights cannot be trained; give the unquantised model"
        )
    joining = _what_joins_examples(config, named)
    if joining is not None and training.zero_stage == 3:
        raise ValueError(
            f"{named} has {joining}, so its examples are not packed but run one by one, and training.zero_stage is 3, whose workers "
            "must run the same number; set training.zero_stage to 2"
        )
    _check_structure(config, named, training)
    problem = _disagreement(config)
    if problem is not None:
        raise ValueError(f"{named} cannot be trained here: {problem}; {REMEDY}")


def _what_joins_examples(config: Any, named: str) -> str | None:
    try:
        return what_joins_examples(config)
    except KeyError:
        raise ValueError(f"{named} is no causal language model of transformers; {REMEDY}") from None


def _check_structure(config: Any, named: str, training: TrainingConfig) -> None:
    """The output layer, the router's loss and the adapters, on a model of the real shape that has no weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        causal_lm = AutoModelForCausalLM.from_config(config, attn_implementation=implementation_for(config))
    if causal_lm.get_output_embeddings() is None:
        raise ValueError(f"{named} has no output layer that its {type(causal_lm).__name__} names; {REMEDY}")
    TargetLoss(causal_lm, chunk_tokens=1, router_aux_loss=training.router_aux_loss)
    if training.lora is not None:
        add_adapters(causal_lm, training.lora, training.seed)


def _disagreement(config: Any) -> str | None:
    """How the loss of a packed row differs from that of its examples alone in a miniature of the model; None when it does not.

    A miniature that cannot be built or run says nothing of the model.
    """
    ids_T = torch.randint(3, VOCABULARY_SIZE, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    attention = implementation_for(config)
    try:
        causal_lm = miniature(config, attention)
        if attention == PACKED_ATTENTION:
            causal_lm.set_attn_implementation("eager")
        with torch.no_grad():
            alone, looks_ahead = _by_transformers(causal_lm, ids_T)
            if attention == PACKED_ATTENTION:
                causal_lm.set_attn_implementation(PACKED_ATTENTION)
    except Exception:  # whatever an architecture with other bounds than the miniature knows raises
        return None
    if looks_ahead:
        return "its tokens see those after them"
    batch = _one_row(ids_T)
    try:
        TargetLoss(causal_lm.train(), chunk_tokens=5)(*batch).backward()
        with torch.no_grad():
            packed = TargetLoss(causal_lm.eval(), chunk_tokens=5)(*batch)
    except Exception as error:  # the model's own code, with arguments that it does not expect
        return f"its forward pass fails on a packed row ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    if not abs(packed.item() - alone) <= TOLERANCE * abs(alone):
        return f"in a miniature of it, two examples in one row have the loss {packed.item():.4f}, and each alone {alone:.4f} together"
    return None


def _one_row(ids_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[int], torch.Tensor, torch.Tensor]:
    """The two examples as TargetLoss takes them."""
    position_ids_T = torch.cat([torch.arange(length) for length in LENGTHS])
    is_target = position_ids_T >= torch.tensor(PROMPTS).repeat_interleave(torch.tensor(LENGTHS))
    targets_N = is_target.nonzero()[:, 0]
    return ids_T[None], position_ids_T[None], list(LENGTHS), targets_N - 1, ids_T[targets_N]


def _by_transformers(causal_lm: Any, ids_T: torch.Tensor) -> tuple[float, bool]:
    """The summed loss of each example's targets from its own forward pass with all logits; whether a token sees one after it."""
    total, looks_ahead = 0.0, False
    for ids_L, prompt in zip(ids_T.split(LENGTHS), PROMPTS, strict=True):
        logits_LV = causal_lm(input_ids=ids_L[None], use_cache=False).logits[0].float()
        total += torch.nn.functional.cross_entropy(logits_LV[prompt - 1 : -1], ids_L[prompt:], reduction="sum").item()
        other_L = ids_L.clone()
        other_L[-1] = 3 + (ids_L[-1] - 2) % (VOCABULARY_SIZE - 3)
        others_LV = causal_lm(input_ids=other_L[None], use_cache=False).logits[0].float()
        looks_ahead |= not torch.allclose(logits_LV[:-1], others_LV[:-1], rtol=TOLERANCE, atol=TOLERANCE)
    return total, looks_ahead
