"""The work of a training step in FLOPs; knows no torch, so that a plan can count it too.

Work is what forward and backward need, per weight and token 6 FLOPs or 4 where the weight is frozen, and attention within examples. The
output layer counts for target tokens alone, experts for the tokens that pass them, and what activation checkpointing or the loss computes
again not at all.
How to use: `model_flops(size, tokens, targets, squares)`; model/size.py measures a model.
"""

from dataclasses import dataclass

FORWARD_AND_BACKWARD = 6.0
"""FLOPs of a trained weight for each token that passes it: 2 forward, 2 for the gradient of its input, 2 for its own."""
FROZEN = 4.0
"""The same without its own gradient: what LoRA leaves as it is."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What the work of a step follows from."""

    num_parameters: int
    """All of them, also those that a token does not pass."""
    hidden_size: int
    flops_per_token: float
    """Of the weights that every token passes, forward and backward."""
    flops_per_target: float
    """Of the output layer, which only target tokens pass."""
    attention_width: int
    """Query heads x head size."""
    num_attention_layers: int
    num_sliding_layers: int = 0
    """Those of them that see sliding_window tokens only."""
    sliding_window: int | None = None


def model_flops(size: ModelSize, tokens: int, targets: int, squares: int) -> float:
    """FLOPs of forward and backward over `tokens` tokens, `targets` of them targets, in examples whose squared lengths add up to `squares`.

    A causal layer looks at half of an example's square; a sliding one at no more, and at no more than its window for each token.
    """
    num_sliding = 0 if size.sliding_window is None else size.num_sliding_layers
    seen = (size.num_attention_layers - num_sliding) * squares + num_sliding * min(squares, 2 * tokens * (size.sliding_window or 0))
    return size.flops_per_token * tokens + size.flops_per_target * targets + FORWARD_AND_BACKWARD * size.attention_width * seen
