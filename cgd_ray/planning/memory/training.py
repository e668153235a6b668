"""The memory of one training rank at its highest moment, by what it holds, on its device and in host memory.

What DeepSpeed allocates for parameters, gradients and optimizer was read off its live tensors, stage by stage, and is held to that by
tests/integration/test_planned_memory.py. Activations are counted (counting.py); the rest are allowances, named below.
How to use: `memory = training_memory(config.training, facts, world_size=8)`; `memory.device`, `smallest_that_fits(...)`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cgd_ray.config import TrainingConfig
from cgd_ray.planning.models.facts import ModelFacts
from cgd_ray.training.model.zero_settings import LARGEST_REDUCE_BUCKET, is_plain

GIB = 2**30
CUDA_CONTEXT_BYTES = 0.6 * GIB
"""Of one process on a GPU: context, kernels, the workspaces of cuBLAS."""
NCCL_BYTES = 0.9 * GIB
"""Of its communicators where there are several ranks."""
FRAGMENTATION = 0.06
"""Of what torch's allocator holds on a GPU, lost between blocks of other sizes."""
RANK_PROCESS_BYTES = 0.66 * GIB
"""Of a worker's process in host memory before a model is loaded: Python, torch, DeepSpeed, Ray."""
KERNEL_BYTES = {2: 0.45 * GIB, 4: 0.0}
"""Of what oneDNN keeps of its kernels on a CPU, one for each shape, by the bytes of an element; products in fp32 are not its own."""
LARGEST_GATHERED = 1_000_000_000
"""Elements that ZeRO-3 keeps gathered, by its own default (stage3_max_live_parameters, stage3_max_reuse_distance)."""
BACKWARD_OF_LAYER = 0.6
"""What a layer's backward pass makes for a moment, as a share of what its forward pass has kept."""
LOGIT_BYTES = {2: 10, 4: 8}
"""Of a logit by the bytes of an element: itself, in fp32 its share of the probability, and the gradient."""


@dataclass(frozen=True, kw_only=True)
class RankMemory:
    """Bytes of one rank, by what they are for."""

    device: Mapping[str, float]
    """On the GPU, or where there is none in host memory."""
    host: Mapping[str, float]
    """In host memory, of a rank that has a GPU."""

    @property
    def device_bytes(self) -> float:
        """All on the device at the highest moment."""
        return sum(self.device.values())

    @property
    def host_bytes(self) -> float:
        """All in host memory."""
        return sum(self.host.values())


def training_memory(training: TrainingConfig, facts: ModelFacts, world_size: int, target_share: float = 1.0) -> RankMemory:
    """Of each of so many ranks, where this share of the tokens are targets, which have logits; auto is the devices' usual precision."""
    half = training.precision == "bf16" or (training.precision == "auto" and training.use_gpu)
    settled = training.model_copy(update={"precision": "bf16" if half else "fp32"})
    targets = math.ceil(target_share * training.micro_batch_size * training.context_length)
    states = state_bytes(settled, facts, world_size)
    working = {**_activations(settled, facts, targets), **_sharded(settled, facts)}
    if not training.use_gpu:
        return RankMemory(device={**states, **working, "process": RANK_PROCESS_BYTES + KERNEL_BYTES[_width(settled)]}, host={})
    kept = {name: amount for name, amount in states.items() if not _is_offloaded(settled, name)}
    moved = {name: amount for name, amount in states.items() if _is_offloaded(settled, name)}
    held = {**kept, **working}
    fixed = {
        "fragmentation": FRAGMENTATION * sum(held.values()),
        "CUDA": CUDA_CONTEXT_BYTES,
        "NCCL": NCCL_BYTES if world_size > 1 else 0.0,
    }
    return RankMemory(device={**held, **fixed}, host={**moved, "process": RANK_PROCESS_BYTES})


def state_bytes(training: TrainingConfig, facts: ModelFacts, world_size: int) -> dict[str, float]:
    """Parameters, gradients and optimizer of a rank once it has taken a step and is in the backward pass of the next; precision settled."""
    stage, each = training.zero_stage, _width(training)
    whole, trained = facts.size.num_parameters, trained_parameters(training, facts)
    share = 1 if stage == 0 else 1 / world_size
    own_copy = 0 if is_plain(training) else 4  # fp32 weights that the optimizer updates
    return {
        "parameters": each * whole * (1 / world_size if stage == 3 else 1),
        "gradients": trained * _gradient_bytes(training, each, world_size),
        "optimizer": trained * (own_copy + 8) * share,
    }


def _gradient_bytes(training: TrainingConfig, each: int, world_size: int) -> float:
    """Of a trained parameter on each rank, as micro-batches add up, which from stage 1 on is in fp32."""
    if training.zero_stage == 0:
        return each
    if training.zero_stage == 1:
        return 4 + each  # the gradients of a micro-batch beside their sum in fp32
    return 4 / world_size


def trained_parameters(training: TrainingConfig, facts: ModelFacts) -> float:
    """All, or those of adapters: rank x (inputs + outputs) of each linear layer, which are taken to be square."""
    if training.lora is None:
        return facts.size.num_parameters
    adapted = 7 * facts.num_layers  # matrices of a block
    return adapted * 2 * training.lora.rank * math.sqrt(facts.largest_layer / 7)


def _is_offloaded(training: TrainingConfig, name: str) -> bool:
    """Whether DeepSpeed keeps it in host memory."""
    return training.offload == "parameters" or (training.offload == "optimizer" and name != "parameters")


def _activations(training: TrainingConfig, facts: ModelFacts, targets: int) -> dict[str, float]:
    """What a micro-batch keeps for its backward pass, and the most that loss, backward pass and reduction make for a moment beside it."""
    tokens = training.micro_batch_size * training.context_length
    kept = tokens * facts.saved_bytes_per_token["bf16" if _width(training) == 2 else "fp32"]
    of_layer = kept / facts.num_layers
    if training.activation_checkpointing:
        kept = tokens * facts.size.hidden_size * _width(training) * facts.num_layers + of_layer
    logits = min(training.logits_chunk_tokens, targets) * facts.vocabulary_size * LOGIT_BYTES[_width(training)]
    gradient = _width(training) * facts.largest_parameter
    bucket = _buckets(training, facts)
    if training.use_gpu:
        return {"activations": kept, "working set": max(logits, BACKWARD_OF_LAYER * of_layer + gradient + bucket)}
    # a bucket in host memory takes room as it fills, while the backward pass gives back what was kept
    return {"activations": kept, "working set": max(logits, BACKWARD_OF_LAYER * of_layer + gradient, bucket + gradient - kept)}


def _buckets(training: TrainingConfig, facts: ModelFacts) -> float:
    """Gradients on their way to other ranks; the next are collected meanwhile where the two overlap. ZeRO-3's are no moment's."""
    if training.zero_stage in (0, 3):
        return 0.0
    return (2 if training.use_gpu else 1) * _width(training) * _bucket_size(training, facts)


def _bucket_size(training: TrainingConfig, facts: ModelFacts) -> float:
    """In elements."""
    return min(float(LARGEST_REDUCE_BUCKET), trained_parameters(training, facts))


def _sharded(training: TrainingConfig, facts: ModelFacts) -> dict[str, float]:
    """What ZeRO-3 holds besides its shares: a bucket for good, and the parameters that it has gathered."""
    if training.zero_stage < 3:
        return {}
    return {"buckets": _width(training) * _bucket_size(training, facts), "gathered parameters": _gathered(training, facts)}


def _width(training: TrainingConfig) -> int:
    """Bytes of an element."""
    return 2 if training.precision == "bf16" else 4


def _gathered(training: TrainingConfig, facts: ModelFacts) -> float:
    return float(_width(training) * min(facts.size.num_parameters, max(LARGEST_GATHERED, facts.largest_layer)))


def smallest_that_fits(training: TrainingConfig, facts: ModelFacts, world_size: int, device: float, host: float) -> TrainingConfig | None:
    """The settings that fit and change least: none, then a higher stage, checkpointing, a micro-batch of one row, offloading.

    `device` bytes are on each GPU and `host` bytes for each rank in host memory; None where nothing fits.
    """
    for changed in _ladder(training):
        memory = training_memory(changed, facts, world_size)
        if memory.device_bytes <= device and memory.host_bytes <= host:
            return changed
    return None


def _ladder(training: TrainingConfig) -> list[TrainingConfig]:
    steps: list[TrainingConfig] = [training]
    stages = range(max(1, training.zero_stage), 4)
    for checkpointing in sorted({training.activation_checkpointing, True}):
        for micro_batch_size in sorted({training.micro_batch_size, 1}, reverse=True):
            common = {"activation_checkpointing": checkpointing, "micro_batch_size": micro_batch_size}
            steps += [training.model_copy(update={**common, "zero_stage": stage}) for stage in stages]
    if training.use_gpu:
        last = {"activation_checkpointing": True, "micro_batch_size": 1, "zero_stage": 3}
        steps += [training.model_copy(update={**last, "offload": kind}) for kind in ("optimizer", "parameters")]
    return steps
