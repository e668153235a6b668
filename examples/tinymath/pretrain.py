"""Pre-training from scratch in one process: plain torch, fp32 weights under bf16 autocast, batches of like lengths without packing.

Why not the project's trainer: that one fine-tunes on a cluster (packing, ZeRO, checkpoints); here a model of a megabyte learns its
language once, and one thread a model, two models side by side, is the fastest use of two cores (10,000 tokens/s each).
Used by train_models.py.
"""

import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel, Qwen3ForCausalLM

from cgd_ray.chat import Example

logger = logging.getLogger(__name__)

TOKENS_PER_BATCH = 4096
PEAK_LEARNING_RATE = 3e-3
FINAL_RATE_FRACTION = 0.05
WARMUP_FRACTION = 0.03
WEIGHT_DECAY = 0.05
BETAS = (0.9, 0.98)
MAX_GRAD_NORM = 1.0
IGNORED = -100  # cross_entropy's own mark of a position without a loss
LOG_EVERY_STEPS = 100

Batch = tuple[torch.Tensor, torch.Tensor]
"""input_ids_BT and the next tokens labels_BT, IGNORED where there is no loss. B sequences, T tokens."""


def read_examples(path: Path) -> list[Example]:
    """Read what corpus.write_examples wrote."""
    return [Example(input_ids=row["input_ids"], prompt_length=row["prompt_length"]) for row in pq.read_table(path).to_pylist()]


def make_batches(examples: Sequence[Example], padding: int, seed: int) -> Iterator[Batch]:
    """All examples once, in random order of batches; a batch holds at most TOKENS_PER_BATCH tokens of sequences of like lengths."""
    rng = random.Random(seed)
    order = rng.sample(range(len(examples)), len(examples))
    pool_size = len(examples) * 8 * TOKENS_PER_BATCH // sum(len(example.input_ids) for example in examples)  # about 8 batches
    for start in range(0, len(order), pool_size):
        pool = sorted((examples[index] for index in order[start : start + pool_size]), key=lambda example: len(example.input_ids))
        groups: list[list[Example]] = [[]]
        for example in pool:
            if (len(groups[-1]) + 1) * len(example.input_ids) > TOKENS_PER_BATCH:
                groups.append([])
            groups[-1].append(example)
        rng.shuffle(groups)
        yield from (_pad(group, padding) for group in groups)


def _pad(group: Sequence[Example], padding: int) -> Batch:
    num_tokens = max(len(example.input_ids) for example in group)
    input_ids_BT = torch.full((len(group), num_tokens), padding)
    labels_BT = torch.full((len(group), num_tokens), IGNORED)
    for row, example in enumerate(group):
        length, ids = len(example.input_ids), torch.tensor(example.input_ids)
        input_ids_BT[row, :length] = ids
        labels_BT[row, example.prompt_length - 1 : length - 1] = ids[example.prompt_length :]
    return input_ids_BT, labels_BT


def loss_of(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Mean loss per target token. Padding is on the right, so causal attention needs no mask; logits exist for targets only."""
    input_ids_BT, labels_BT = batch
    targets = labels_BT != IGNORED
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=input_ids_BT, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[targets])
    return torch.nn.functional.cross_entropy(logits.float(), labels_BT[targets])


def rate_factor(progress: float) -> float:
    """Learning rate as a share of its peak: linear warm-up, then a cosine; progress in 0..1."""
    if progress < WARMUP_FRACTION:
        return progress / WARMUP_FRACTION
    cosine = 0.5 * (1 + math.cos(math.pi * (progress - WARMUP_FRACTION) / (1 - WARMUP_FRACTION)))
    return FINAL_RATE_FRACTION + (1 - FINAL_RATE_FRACTION) * cosine


def pretrain(directory: Path, examples: Sequence[Example], seed: int, num_threads: int = 1) -> list[float]:
    """Train the model saved in `directory` for one pass and save it there in bfloat16; returns the loss of every step."""
    torch.set_num_threads(num_threads)
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").train()
    batches = list(make_batches(examples, model.config.pad_token_id, seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY)
    losses, num_tokens, started = list[float](), 0, time.monotonic()
    for step, batch in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LEARNING_RATE * rate_factor(step / len(batches))
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        num_tokens += batch[0].numel()
        if step % LOG_EVERY_STEPS == 0 or step == len(batches):
            recent = losses[-LOG_EVERY_STEPS:]
            rate = num_tokens / (time.monotonic() - started)
            logger.info("step %d/%d loss %.4f %.0f tokens/s", step, len(batches), sum(recent) / len(recent), rate)
    model.to(torch.bfloat16).save_pretrained(directory)
    return losses
