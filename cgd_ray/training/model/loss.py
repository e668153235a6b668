"""The loss: logits for target positions only, in chunks, summed in fp32.

Most of a CGD example is context that carries no loss, so its logits are never computed; of the rest, one chunk exists at a time and is
computed again in the backward pass. All chunks are inside one module, so that ZeRO-3 gathers the output layer once a pass and sees the
same modules at every step, however many chunks a rank has. torch's F.linear_cross_entropy takes chunks too, but knows neither capped
logits nor adapters on the output layer.
How to use: `loss_sum = TargetLoss(causal_lm, chunk_tokens=2048)(**batch.to(device))`; `.token_losses(...)` for each target's own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from cgd_ray.training.model.attention import PACKED_ATTENTION
from cgd_ray.training.model.experts import balancing_loss, router_aux_loss_of

IGNORED = -100  # cross_entropy's own mark of a position without loss

_LOGITS: tuple[tuple[str, str, Callable[[torch.Tensor, float], torch.Tensor]], ...] = (
    ("logit_scale", "", lambda logits, scale: logits * scale),  # Cohere
    ("output_multiplier", "", lambda logits, scale: logits * scale),
    ("lm_head_multiplier", "", lambda logits, scale: logits * scale),  # Falcon-H1
    ("logits_scaling", "hyperclovax", lambda logits, scale: logits * scale),
    ("logits_scaling", "granite", lambda logits, scale: logits / scale),
    *((name, "", lambda logits, cap: torch.tanh(logits / cap) * cap) for name in ("final_logit_softcapping", "logits_soft_cap")),  # Gemma
)
"""A field of the config, the beginning of the model types that mean this by it, and what they do to the output layer's result, in order."""


def backbone_of(causal_lm: Any) -> Any:
    """The part of a causal language model that makes hidden states of text."""
    decoder = causal_lm.get_decoder()
    return causal_lm.model if decoder is causal_lm else decoder  # Llama 4's names none


class TargetLoss(torch.nn.Module):
    """A causal language model whose forward returns the summed cross entropy of chosen positions.

    Legend: T tokens of the flat micro-batch, N target positions.
    """

    def __init__(self, causal_lm: PreTrainedModel, *, chunk_tokens: int, router_aux_loss: float | None = None) -> None:
        """chunk_tokens target positions have logits at once; router_aux_loss is the setting of that name."""
        super().__init__()
        self.causal_lm = causal_lm
        self.output = OutputLoss(causal_lm, chunk_tokens)
        self._router_aux_loss = router_aux_loss_of(causal_lm, router_aux_loss)

    def forward(
        self,
        input_ids_1T: torch.Tensor,
        position_ids_1T: torch.Tensor,
        example_lengths: list[int],
        positions_N: torch.Tensor,
        target_ids_N: torch.Tensor,
    ) -> torch.Tensor:
        """Sum over n of -log p(target_ids[n] | the example up to and including positions[n]), a scalar in fp32.

        While training a mixture of experts, the routers' auxiliary loss is added, weighted so that a step's mean over its targets has it
        once.
        """
        balances = self.training and self._router_aux_loss > 0
        outputs = self._backbone(input_ids_1T, position_ids_1T, example_lengths, {"output_router_logits": True} if balances else {})
        total: torch.Tensor = self.output(_hidden(outputs), positions_N, target_ids_N)
        if balances:
            auxiliary = balancing_loss(self.causal_lm, [output.router_logits for output in outputs])
            total = total + self._router_aux_loss * positions_N.numel() * auxiliary
        return total

    @torch.no_grad()
    def token_losses(
        self,
        input_ids_1T: torch.Tensor,
        position_ids_1T: torch.Tensor,
        example_lengths: list[int],
        positions_N: torch.Tensor,
        target_ids_N: torch.Tensor,
    ) -> torch.Tensor:
        """[N] the terms of forward()'s sum, in fp32, without a trace for gradients; for a model that is whole, not split by ZeRO-3."""
        outputs = self._backbone(input_ids_1T, position_ids_1T, example_lengths, {})
        return self.output.token_losses(_hidden(outputs), positions_N, target_ids_N)

    def _backbone(
        self, input_ids_1T: torch.Tensor, position_ids_1T: torch.Tensor, example_lengths: list[int], options: dict[str, Any]
    ) -> list[Any]:
        """What the model gives for all examples at once, or for each where its layers would carry one example's state into the next."""
        backbone = backbone_of(self.causal_lm)
        if self.causal_lm.config._attn_implementation == PACKED_ATTENTION:
            packed = {"position_ids": position_ids_1T, "example_lengths": example_lengths}
            return [backbone(input_ids=input_ids_1T, use_cache=False, **packed, **options)]
        return [backbone(input_ids=ids, use_cache=False, **options) for ids in input_ids_1T.split(example_lengths, dim=1)]


def _hidden(outputs: list[Any]) -> torch.Tensor:
    """[T, D] the last hidden states of all examples."""
    return torch.cat([output.last_hidden_state[0] for output in outputs])


class OutputLoss(torch.nn.Module):
    """The output layer and the cross entropy of what it makes of hidden states.

    It has the layer's parameters as its own, so ZeRO-3 gathers them for this module's pass and keeps them to its end; the layer itself is
    run beneath the hooks by which ZeRO-3 would follow every chunk.
    """

    def __init__(self, causal_lm: PreTrainedModel, chunk_tokens: int) -> None:
        super().__init__()
        layer, config = causal_lm.get_output_embeddings(), causal_lm.config.get_text_config()
        for name, parameter in layer.named_parameters():
            self.register_parameter(name.replace(".", "_"), parameter)
        self._run_layer = layer.forward
        self._chunk_tokens = chunk_tokens
        self._changes = [
            (change, value)
            for field, types, change in _LOGITS
            if config.model_type.startswith(types) and (value := getattr(config, field, None)) is not None
        ]

    def forward(self, hidden_TD: torch.Tensor, positions_N: torch.Tensor, target_ids_N: torch.Tensor) -> torch.Tensor:
        """Summed cross entropy in fp32 of the targets, whose logits come from the hidden states at these positions."""
        if not positions_N.numel():  # the layer runs nevertheless: all ranks go the same way through the modules, forward and backward
            positions_N, target_ids_N = positions_N.new_zeros(1), target_ids_N.new_full((1,), IGNORED)
        chunks = list(zip(positions_N.split(self._chunk_tokens), target_ids_N.split(self._chunk_tokens), strict=True))
        total = hidden_TD.new_zeros((), dtype=torch.float32)
        for positions, targets in chunks:
            hidden_CD = hidden_TD[positions]
            if len(chunks) == 1:
                total = total + self._chunk_loss(hidden_CD, targets)
            else:
                total = total + checkpoint(self._chunk_loss, hidden_CD, targets, use_reentrant=False)
        return total

    def token_losses(self, hidden_TD: torch.Tensor, positions_N: torch.Tensor, target_ids_N: torch.Tensor) -> torch.Tensor:
        """[N] the cross entropy of each target, in fp32."""
        chunks = zip(positions_N.split(self._chunk_tokens), target_ids_N.split(self._chunk_tokens), strict=True)
        losses = [
            torch.nn.functional.cross_entropy(self._chunk_logits(hidden_TD[positions]), targets, reduction="none")
            for positions, targets in chunks
        ]
        return torch.cat(losses)

    def _chunk_loss(self, hidden_CD: torch.Tensor, targets_C: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self._chunk_logits(hidden_CD), targets_C, ignore_index=IGNORED, reduction="sum")

    def _chunk_logits(self, hidden_CD: torch.Tensor) -> torch.Tensor:
        logits_CV = self._run_layer(hidden_CD)
        for change, value in self._changes:
            logits_CV = change(logits_CV, value)
        return logits_CV.float()
