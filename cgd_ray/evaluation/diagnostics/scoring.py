"""How surprised a model is by each token of a target: the training's own forward pass and loss, without the sum at its end.

Logits exist for targets alone, a chunk at a time, and examples are packed into rows of the training's length, so whatever could be trained
can be scored in a part of that memory. The model has to fit on one device.
How to use: `scorer = Scorer(training, model, adapter)`; `losses = scorer(examples)`. Only processes that score import this (torch).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Example
from cgd_ray.training.examples.bins import first_fit_decreasing
from cgd_ray.training.feed.rows import make_batch
from cgd_ray.training.model.loss import TargetLoss
from cgd_ray.training.model.zero import load_model


class Scorer:
    """One model on one device, in the training's precision and with its attention."""

    def __init__(self, training: TrainingConfig, model: str, adapter: str | None = None) -> None:
        """Load the model, with a LoRA adapter merged into it. Raises ValueError when it does not fit on the device."""
        self._device = torch.device("cuda" if training.use_gpu else "cpu")
        self._context_length = training.context_length
        causal_lm = load_model(training, model, adapter)
        try:
            causal_lm.to(self._device)
        except torch.OutOfMemoryError:
            raise ValueError(f"model {model} does not fit on one GPU in {training.precision}, which diagnosing takes") from None
        self._loss = TargetLoss(causal_lm, chunk_tokens=training.logits_chunk_tokens, router_aux_loss=0.0).eval()

    def __call__(self, examples: Sequence[Example]) -> list[np.ndarray]:
        """For each example [targets] the negative log likelihood in nats of its target tokens, each after all before it, in fp32."""
        bins = first_fit_decreasing([len(example.input_ids) for example in examples], self._context_length)
        losses: dict[int, np.ndarray] = {}
        for start, stop in zip(bins.ends_B[:-1], bins.ends_B[1:], strict=True):
            members = bins.members_E[start:stop].tolist()
            losses.update(zip(members, self._row([examples[member] for member in members]), strict=True))
        return [losses[index] for index in range(len(examples))]

    def _row(self, examples: Sequence[Example]) -> Iterator[np.ndarray]:
        prompt_lengths = np.maximum([example.prompt_length for example in examples], 1)  # nothing could predict the first token
        lengths = np.array([len(example.input_ids) for example in examples])
        batch = make_batch(np.concatenate([example.input_ids for example in examples]), lengths, prompt_lengths)
        losses_N = self._loss.token_losses(**batch.to(self._device)).cpu().numpy()
        return iter(np.split(losses_N, np.cumsum(lengths - prompt_lengths)[:-1]))
