"""DeepSpeed's own configuration, from the settings of the training and what training.deepspeed adds to it.

How to use: `deepspeed.initialize(config=settings(training, world_size, size))`; `zero.Init(config_dict_or_path=init_settings(training))`.
"""

from collections.abc import Mapping
from typing import Any

from cgd_ray.config import TrainingConfig
from cgd_ray.training.observe.work import ModelSize

LARGEST_REDUCE_BUCKET = 200_000_000  # elements; ZeRO keeps buffers of this size, so a small model gets small ones


def settings(training: TrainingConfig, world_size: int, size: ModelSize) -> dict[str, Any]:
    """DeepSpeed's own configuration. What training.deepspeed adds has the last word."""
    half = training.precision == "bf16"
    stage = training.zero_stage
    zero: dict[str, Any] = {}
    if stage > 0:
        zero |= {"reduce_bucket_size": min(LARGEST_REDUCE_BUCKET, size.num_parameters), "overlap_comm": training.use_gpu}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 10 * size.hidden_size  # norms and the like stay whole
    own = {
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": training.micro_batches_per_step(world_size),
        "gradient_clipping": 0.0 if is_plain(training) else training.max_grad_norm,
        "bf16": {"enabled": half},
        # Micro-batches add up in fp32, or small gradients vanish; DeepSpeed knows this for ZeRO only.
        "data_types": {"grad_accum_dtype": "fp32"} if half and stage > 0 else {},
        "zero_optimization": {**zero, **_placed(training)},
        "zero_force_ds_cpu_optimizer": False,  # AdamW's fused implementation is torch's own on CPUs too
        # Timing a collective makes it blocking, which on a CPU it is anyway, but for ZeRO-3's.
        "comms_logger": {"enabled": not training.use_gpu and stage < 3, "prof_all": True, "verbose": False},
        "steps_per_print": None,
    }
    return _overlaid(own, training.deepspeed)


def init_settings(training: TrainingConfig) -> dict[str, Any]:
    """The configuration under which ZeRO-3 splits a model while it is built: where the parts are put must be said there already."""
    own = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": training.precision == "bf16"},
        "zero_optimization": _placed(training),
    }
    return _overlaid(own, training.deepspeed)


def _placed(training: TrainingConfig) -> dict[str, Any]:
    """What is split, and what of it is kept in host memory."""
    host = {"device": "cpu", "pin_memory": training.use_gpu}
    placed: dict[str, Any] = {"stage": training.zero_stage}
    if training.offload != "none":
        placed["offload_optimizer"] = host
    if training.offload == "parameters":
        placed["offload_param"] = host
    return placed


def _overlaid(own: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with further ones over them, in groups of settings too."""
    return {
        **own,
        **{
            name: _overlaid(own[name], value) if isinstance(value, Mapping) and isinstance(own.get(name), Mapping) else value
            for name, value in further.items()
        },
    }


def is_plain(training: TrainingConfig) -> bool:
    """Whether DeepSpeed leaves the optimizer as it is; it then clips without telling the norm, so that is done here."""
    return training.zero_stage == 0 and training.precision == "fp32"
