"""The loss: logits for target positions only, in chunks, summed in fp32.

Most of a CGD example is context that carries no loss, so its logits are never computed; of the rest, one chunk exists at a time and is
computed again in the backward pass. The output layer is called as a module, so that ZeRO-3 gathers its weight.
How to use: `loss_sum = TargetLoss(causal_lm)(**batch.inputs())`.
"""

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

IGNORED = -100  # cross_entropy's own mark of a position without loss
_SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class TargetLoss(torch.nn.Module):
    """A causal language model whose forward returns the summed cross entropy of chosen positions.

    Legend: T tokens of the flat micro-batch, N target positions.
    """

    def __init__(self, causal_lm: PreTrainedModel) -> None:
        super().__init__()
        scaled = [name for name in _SCALED_LOGITS if getattr(causal_lm.config, name, None) not in (None, 1.0)]
        if scaled:
            raise ValueError(
                f"model {causal_lm.config.name_or_path} sets {', '.join(scaled)}, which this loss does not support; choose another model"
            )
        self.causal_lm = causal_lm

    def forward(
        self,
        input_ids_1T: torch.Tensor,
        position_ids_1T: torch.Tensor,
        example_lengths: list[int],
        positions_N: torch.Tensor,
        target_ids_N: torch.Tensor,
        num_chunks: int,
    ) -> torch.Tensor:
        """Sum over n of -log p(target_ids[n] | the example up to and including positions[n]), a scalar in fp32.

        Every call runs the output layer exactly num_chunks times, whatever N is: under ZeRO-3 each run is a collective, so ranks with
        fewer targets must not skip any.
        """
        hidden_TD = self.causal_lm.base_model(
            input_ids=input_ids_1T, position_ids=position_ids_1T, use_cache=False, example_lengths=example_lengths
        ).last_hidden_state[0]
        num_targets = positions_N.numel()
        padded = max(num_targets, num_chunks)  # positions past num_targets stand in where a chunk would be empty; they weigh nothing
        positions = torch.nn.functional.pad(positions_N, (0, padded - num_targets))
        targets = torch.nn.functional.pad(target_ids_N, (0, padded - num_targets), value=IGNORED)
        total = hidden_TD.new_zeros((), dtype=torch.float32)
        for chunk, chunk_targets in zip(positions.tensor_split(num_chunks), targets.tensor_split(num_chunks), strict=True):
            hidden = hidden_TD[chunk]
            if num_chunks == 1:
                total = total + self._chunk_loss(hidden, chunk_targets)
            else:
                total = total + checkpoint(self._chunk_loss, hidden, chunk_targets, use_reentrant=False)
        return total

    def _chunk_loss(self, hidden_CD: torch.Tensor, targets_C: torch.Tensor) -> torch.Tensor:
        logits_CV = self.causal_lm.get_output_embeddings()(hidden_CD)
        return torch.nn.functional.cross_entropy(logits_CV.float(), targets_C, ignore_index=IGNORED, reduction="sum")
