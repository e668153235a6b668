"""How fast an engine generates and a rank trains: from the hardware's bounds, or as an earlier run on it has shown.

A decoding step reads all weights once and the keys and values of all requests; a prompt, and a training step, are bound by arithmetic. How
much of these bounds is reached is a range, from what aiconfigurator's tables and trainers' published figures come to; no GPU was at hand.
How to use: `rate = engine_rate(role, facts, gpu, places=256, context=2000)`; `training_flops(training, gpu, world_size)`.
"""

from dataclasses import dataclass

from cgd_ray.config import RoleConfig, TrainingConfig
from cgd_ray.planning.models.facts import ModelFacts
from cgd_ray.planning.ranges import Range
from cgd_ray.process.accelerators import Gpu

DECODING_EFFICIENCY = Range(0.78, 0.6, 0.9)
"""Share of the bound that decoding reaches; with it, rates are aiconfigurator's within a tenth or so (benchmarks/plan_rates.py)."""
PROMPT_EFFICIENCY = Range(0.5, 0.35, 0.65)
"""The same of reading prompts."""
TRAINING_EFFICIENCY = Range(0.42, 0.3, 0.52)
"""Model FLOP/s over the peak: honest MFU, without what is computed again."""
RECOMPUTED = 0.75
"""What activation checkpointing leaves of it: a forward pass more for each three."""
OFFLOADED = {"none": 1.0, "optimizer": 0.7, "parameters": 0.4}
"""What waiting for host memory leaves of it."""
STEP_OVERHEAD_S = Range(0.0012, 0.0006, 0.004)
"""Of a decoding step: scheduling, sampling, launching kernels."""
ALL_REDUCE_S = 14e-6
"""Of adding up a layer's results over the GPUs of an engine, twice a layer; small ones take as long as the way there and back."""
ENGINE_START_S = Range(120.0, 60.0, 300.0)
"""From nothing to the first token on a GPU, without reading the weights."""
TRAINING_START_S = Range(90.0, 45.0, 240.0)
"""From nothing to the first step, without reading the weights."""
READ_BYTES_PER_S = Range(1.0e9, 0.3e9, 3.0e9)
"""At which a node reads weights from shared storage."""


DRIVER_S_PER_CALL = 0.012
"""Of the driver's own CPU for a call over all stages, which no number of nodes divides (benchmarks/pipeline_overhead.py, docs/scale.md)."""
DRIVER_S_PER_ROW = 35e-6
"""The same for a row."""


def driver_rows_per_s(batch_size: int) -> float:
    """The most rows that one driver hands out and takes back, with so many in a call."""
    return 1 / (DRIVER_S_PER_CALL / batch_size + DRIVER_S_PER_ROW)


@dataclass(frozen=True, kw_only=True)
class EngineRate:
    """Of one engine with all its GPUs, in tokens per second."""

    output: Range
    """Generated, all requests together."""
    prompt: Range
    """Of prompts that are not in its cache."""

    def seconds(self, prompt_tokens: Range, output_tokens: Range) -> Range:
        """For so many tokens."""
        return prompt_tokens / self.prompt + output_tokens / self.output


def engine_rate(role: RoleConfig, facts: ModelFacts, gpu: Gpu, places: int, context: float) -> EngineRate:
    """With so many requests at once, each so many tokens long on average."""
    num_gpus = max(role.placement.gpus_of_replica, 1.0)
    share = role.placement.gpus_per_replica if role.placement.shares_gpu else num_gpus
    width = 4 if role.engine.get("dtype") == "float32" else 2
    weights = facts.file_bytes or width * facts.size.num_parameters
    reading = (weights + places * context * facts.kv_elements_per_token * width) / (gpu.bandwidth * share)
    computing = places * facts.forward_flops / (gpu.peak_flops * share)
    meeting = 2 * ALL_REDUCE_S * facts.num_layers if num_gpus > 1 else 0.0
    step = Range.exactly(max(reading, computing)) / DECODING_EFFICIENCY + STEP_OVERHEAD_S + meeting
    return EngineRate(
        output=Range.exactly(places) / step,
        prompt=PROMPT_EFFICIENCY * (gpu.peak_flops * share / facts.forward_flops),
    )


def training_flops(training: TrainingConfig, gpu: Gpu, world_size: int) -> Range:
    """Model FLOP/s of all ranks together."""
    recomputed = RECOMPUTED if training.activation_checkpointing else 1.0
    return TRAINING_EFFICIENCY * (gpu.peak_flops * world_size * recomputed * OFFLOADED[training.offload])


def reading_seconds(facts: ModelFacts) -> Range:
    """Of a model's weights, by each node at the same time."""
    return Range.exactly(facts.file_bytes or 2.0 * facts.size.num_parameters) / READ_BYTES_PER_S
