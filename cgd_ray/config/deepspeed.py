"""Which of DeepSpeed's own settings a config may give (training.deepspeed), and which other settings decide."""

from collections.abc import Mapping
from typing import Any

OWNED_SETTINGS = {
    "train_batch_size": "set training.global_batch_size",
    "train_micro_batch_size_per_gpu": "set training.micro_batch_size",
    "gradient_accumulation_steps": "it follows from training.global_batch_size and the number of workers: remove it",
    "gradient_clipping": "set training.max_grad_norm",
    "optimizer": "it is AdamW: set training.learning_rate, betas and weight_decay",
    "scheduler": "set training.warmup_fraction and final_learning_rate_fraction",
    "bf16": "set training.precision",
    "fp16": "set training.precision",
    "torch_autocast": "set training.precision",
    "activation_checkpointing": "set training.activation_checkpointing",
    "gradient_allreduce_op": "losses are scaled for the mean over ranks: remove it",
    "sequence_parallel_size": "all ranks share the rows: remove it",
    "tensor_parallel": "all ranks share the rows: remove it",
    "pipeline": "all ranks share the rows: remove it",
    "data_efficiency": "the order of the rows is the plan's: remove it",
    "curriculum_learning": "the order of the rows is the plan's: remove it",
    "checkpoint": "checkpoints are this project's own: set training.checkpoint_every_steps",
    "tensorboard": "set training.trackers",
    "wandb": "set training.trackers",
    "csv_monitor": "training/metrics.jsonl has the metrics: remove it",
    "zero_optimization.stage": "set training.zero_stage",
    "zero_optimization.offload_optimizer": "set training.offload",
    "zero_optimization.offload_param": "set training.offload",
    "zero_optimization.cpu_offload": "set training.offload",
}
"""DeepSpeed's settings, dotted where they are in a group, that would be at odds with other settings, and what to do instead."""


def check_passed_on(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings as they are. Raises ValueError for one that another setting decides."""
    group = settings.get("zero_optimization", {})
    if not isinstance(group, Mapping):
        raise ValueError(f"zero_optimization is {group!r}, which is no group of settings; write e.g. {{overlap_comm: false}}")
    for name, value in {**settings, **{f"zero_optimization.{inner}": value for inner, value in group.items()}}.items():
        if name in OWNED_SETTINGS:
            raise ValueError(f"{name} is {value!r}; {OWNED_SETTINGS[name]}")
    return settings
