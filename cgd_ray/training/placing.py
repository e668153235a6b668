"""What the training asks Ray for: the CPUs of a worker, and the host memory of a task that makes a student of a checkpoint.

How to use: `cpus_of_worker(training, nodes)`; `exporting(export_checkpoint, job).remote(job, saved, directory)`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cgd_ray.config import TrainingConfig
from cgd_ray.training.job import TrainJob

PROCESS_BYTES = 2**30  # of Python with torch and transformers, and what else a process has
SHARD_BYTES = 4 * 10**9
"""Of one file of the export at most, which safetensors copies before it writes it."""
MERGED_BYTES = 8
"""Of one parameter while adapters are merged: the model, the sum in fp32, and where it is not fp32 the sum in the export's precision."""


def cpus_of_worker(training: TrainingConfig, nodes: Sequence[Mapping[str, float]]) -> float:
    """CPUs of each worker, where these are the resources of the cluster's nodes.

    An optimizer whose state is in host memory is stepped by the CPUs, so its worker gets its GPU's share of them, of the node where that is
    least. One per GPU stays free for an engine, and for Ray Data where checkpoints are answered.
    """
    if training.cpus_per_worker is not None:
        return training.cpus_per_worker
    if not training.use_gpu or training.offload == "none":
        return 1.0
    shares = [node.get("CPU", 0.0) // node["GPU"] - 1 for node in nodes if node.get("GPU")]
    return max(1.0, min(shares, default=1.0))


def export_bytes(training: TrainingConfig, model: str) -> int:
    """Host memory that the export of a checkpoint takes: the model whole, and one file of it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        causal_lm = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    num_parameters: int = sum(parameter.numel() for parameter in causal_lm.parameters())
    each = MERGED_BYTES if training.lora is not None else 2 if training.precision == "bf16" else 4
    return PROCESS_BYTES + num_parameters * each + min(SHARD_BYTES, num_parameters * each)


def exporting(function: Callable[..., Any], job: TrainJob) -> Any:
    """A Ray task that exports checkpoints of the job; its process ends with it, and what it took of memory is free again.

    It asks for memory, so that no node gets it that is too small, as a head node may be; nothing else here asks for memory, so it never
    waits for any. It asks for no CPU: workers and engines may hold all of them until the training ends, and it reads, writes and waits.
    """
    import ray

    return ray.remote(num_cpus=0, memory=export_bytes(job.training_config(), job.model), max_calls=1)(function)
