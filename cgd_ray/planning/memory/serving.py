"""The memory of an engine's GPUs: weights, what vLLM works with, and how many requests the rest of it holds at once.

How to use: `memory = engine_memory(role, facts, gpu_memory_bytes)`; `memory.places(tokens=3000)`.
"""

from dataclasses import dataclass

from cgd_ray.config import RoleConfig
from cgd_ray.engines.vllm_engine import SHARED_GPU_MEMORY, cpu_cache_bytes
from cgd_ray.planning.models.facts import ModelFacts

GIB = 2**30
UTILISATION = 0.92
"""vLLM's own default of gpu_memory_utilization."""
STEP_TOKENS = 8192
"""Prompt tokens of one step by vLLM's default on large GPUs (max_num_batched_tokens)."""
WORKSPACE_BYTES = 1.5 * GIB
"""CUDA context, graphs, communicators, of one GPU."""
DTYPE_BYTES = {"float32": 4, "float": 4}
CPU_ENGINE_BYTES = 1.15 * GIB
"""Of an engine's process on a CPU before its weights and its cache: Python, torch, vLLM, Ray."""


@dataclass(frozen=True, kw_only=True)
class EngineMemory:
    """Bytes on each of an engine's GPUs; on a CPU, of its process."""

    weights: float
    """This GPU's share of them."""
    workspace: float
    """Activations of the largest step, logits, graphs, context."""
    cache: float
    """What is left for keys and values; below 0 where not even the weights fit."""
    cache_bytes_per_token: float
    """Of keys and values on this GPU."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.workspace + max(0.0, self.cache)

    @property
    def cached_tokens(self) -> int:
        """Tokens of all requests together that the cache holds."""
        if self.cache <= 0:
            return 0
        return int(self.cache / self.cache_bytes_per_token) if self.cache_bytes_per_token else 2**40

    def places(self, tokens: float, most: int) -> int:
        """Requests of so many tokens each that run at once, `most` at most."""
        return max(0, min(most, int(self.cached_tokens // max(1.0, tokens))))


def engine_memory(role: RoleConfig, facts: ModelFacts, gpu_memory_bytes: float | None) -> EngineMemory:
    """Of one GPU with so much memory, or of the process of an engine on a CPU where that is None."""
    placement = role.placement
    width = DTYPE_BYTES.get(str(role.engine.get("dtype")), 2)
    whole = facts.file_bytes or facts.size.num_parameters * width
    if gpu_memory_bytes is None:
        cache = float(role.engine.get("kv_cache_memory_bytes") or cpu_cache_bytes(role))
        return EngineMemory(
            weights=whole, workspace=CPU_ENGINE_BYTES, cache=cache, cache_bytes_per_token=facts.kv_elements_per_token * width
        )
    num_gpus = max(1.0, placement.gpus_of_replica)
    default = SHARED_GPU_MEMORY * placement.gpus_per_replica if placement.shares_gpu else UTILISATION
    usable = float(role.engine.get("gpu_memory_utilization", default)) * gpu_memory_bytes
    cache_width = 1 if "fp8" in str(role.engine.get("kv_cache_dtype", "")) else width
    shards = min(num_gpus, facts.num_key_value_heads * placement.nodes_per_replica)
    weights, workspace = whole / num_gpus, _workspace(role, facts, num_gpus, width)
    return EngineMemory(
        weights=weights,
        workspace=workspace,
        cache=usable - weights - workspace,
        cache_bytes_per_token=facts.kv_elements_per_token * cache_width / shards,
    )


def _workspace(role: RoleConfig, facts: ModelFacts, num_gpus: float, width: int) -> float:
    """Activations of a step of prompts, which are about eight times the hidden state wide, and the logits of all requests in fp32."""
    step = min(int(role.engine.get("max_num_batched_tokens", STEP_TOKENS)), max(role.context_length, 2048))
    activations = step * facts.size.hidden_size * width * 8
    logits = role.placement.requests_in_flight * facts.vocabulary_size * 4 * 2 / num_gpus
    return WORKSPACE_BYTES + activations + logits
