"""DeepSpeed ZeRO: the engine, its state and its whole weights; the only file that imports deepspeed.

Stages 0 to 3 train the same numbers; what differs is which of optimizer state, gradients and parameters each rank holds a share of.
How to use: `engine = ZeroEngine(training, model_path, Meeting())`; for each micro-batch `engine.backward(engine.forward(inputs), targets)`
and `engine.end_micro_batch(learning_rate)`.
"""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

from cgd_ray.config import TrainingConfig
from cgd_ray.engines.adapters import merge, read_adapter
from cgd_ray.training.meeting import Meeting
from cgd_ray.training.model import zero_state
from cgd_ray.training.model.lora import add_adapters, exported_weights
from cgd_ray.training.model.size import model_size
from cgd_ray.training.model.zero_settings import init_settings, is_plain, settings
from cgd_ray.training.observe.work import ModelSize

logger = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


ANY_SIZE = ModelSize(num_parameters=1, hidden_size=1, flops_per_token=6.0, flops_per_target=6.0, attention_width=1, num_attention_layers=1)
"""Settings depend on a model's size in numbers only, never in what DeepSpeed would refuse."""


def use_accelerator(use_gpu: bool) -> None:
    """Choose DeepSpeed's accelerator; to be called before anything else here, since importing deepspeed fixes it."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if use_gpu else "cpu")
    if not use_gpu:
        # nothing is compiled on CPUs; DeepSpeed's Muon, which is not used, would load torch's compiler for four seconds of each rank
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    with _without_module("mlflow"):  # where it is installed DeepSpeed's autotuner, which is not used, loads it for two seconds of each rank
        import deepspeed

    # DeepSpeed's calls of torch.distributed are deprecated ones, which would be said on every call.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    # The shared-memory op serves inference only, takes 20 s of g++ on first use, and leaves a lock when a worker dies while building.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


@contextmanager
def _without_module(name: str) -> Iterator[None]:
    """Have an import of it fail as where it is not installed, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep what exists out of the garbage collector's sight: DeepSpeed calls it again and again, for half a second each time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def check_settings(training: TrainingConfig) -> None:
    """Have DeepSpeed read the settings. Raises ValueError for what it refuses of training.deepspeed; unknown names it may ignore."""
    with _without_module("mlflow"):
        from deepspeed.runtime.config import DeepSpeedConfig

    try:
        DeepSpeedConfig(settings(training, 1, ANY_SIZE))
    except Exception as error:  # of its own, pydantic's, assertions
        reason = " ".join(str(error).split())
        raise ValueError(f"training.deepspeed is {training.deepspeed}, which DeepSpeed refuses ({reason}); correct or remove it") from None


class ZeroEngine:
    """A model under training: DeepSpeed's engine around TargetLoss, with an AdamW of torch's own."""

    def __init__(self, training: TrainingConfig, model: str, meeting: Meeting, adapter: str | None = None) -> None:
        """Load the model, with a LoRA adapter merged into it, on all ranks.

        torch.distributed is up, and use_accelerator has been called.
        """
        import deepspeed

        from cgd_ray.training.model.loss import TargetLoss

        self._training, self._meeting = training, meeting
        self._plain_norm: torch.Tensor | None = None
        is_sharded = training.zero_stage == 3
        causal_lm = _load_sharded(training, model, adapter, meeting) if is_sharded else load_model(training, model, adapter)
        if training.lora is not None:
            add_adapters(causal_lm, training.lora, training.seed)
        if training.activation_checkpointing:
            causal_lm.gradient_checkpointing_enable({"use_reentrant": False})
        self._optimizer = _adamw(training, causal_lm)
        self.model_size = model_size(causal_lm)
        meeting.wait()  # one node may have read or downloaded the model much faster than another
        with _nothing_collected():
            self._engine, *_ = deepspeed.initialize(
                model=TargetLoss(causal_lm, chunk_tokens=training.logits_chunk_tokens, router_aux_loss=training.router_aux_loss),
                optimizer=self._optimizer,
                config=settings(training, meeting.world_size, self.model_size),
                dist_init_required=False,
            )
        _wait_for_collectives(self._engine, timedelta(seconds=training.collective_timeout_s))
        # DeepSpeed's wrapper for bf16 without ZeRO has taken a step on zero gradients, which would put AdamW's bias correction off by one.
        self._optimizer.state.clear()
        trained = {name: parameter for name, parameter in causal_lm.named_parameters() if parameter.requires_grad}
        self._state = zero_state.ZeroState(_layout(training), self._engine.optimizer, self._optimizer, trained)
        self._engine.train()
        self.communication_s()  # what setting up has taken is no step's

    @property
    def device(self) -> torch.device:
        """Where this rank's inputs belong."""
        device: torch.device = self._engine.device
        return device

    @property
    def causal_lm(self) -> Any:
        """The model inside."""
        return self._engine.module.causal_lm

    def forward(self, inputs: dict[str, Any]) -> torch.Tensor:
        """The summed loss of one micro-batch."""
        loss_sum: torch.Tensor = self._engine(**inputs)
        return loss_sum

    def backward(self, loss_sum: torch.Tensor, global_targets: int) -> None:
        """Add the micro-batch's gradient.

        The step's gradient is that of the mean over all global_targets of the global batch, so each sum is divided by that number, and
        multiplied by the world size because DeepSpeed averages over ranks.
        """
        self._engine.backward(loss_sum * (self._meeting.world_size / global_targets), scale_wrt_gas=False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """While this lasts, forward() leaves no trace."""
        self._engine.eval()
        with torch.no_grad():
            yield
        self._engine.train()

    def end_micro_batch(self, learning_rate: float) -> None:
        """Count the micro-batch; after the last one of a step, clip and update at this rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        if is_plain(self._training) and self._engine.is_gradient_accumulation_boundary():
            self._plain_norm = torch.nn.utils.clip_grad_norm_(self._engine.module.parameters(), self._training.max_grad_norm)
        self._engine.step()

    def grad_norm(self) -> float:
        """Norm of the last step's gradients over all ranks, before clipping."""
        norm = self._plain_norm if is_plain(self._training) else self._engine.get_global_grad_norm()
        assert norm is not None, "no step has been taken"
        return float(norm)

    def communication_s(self) -> float | None:
        """Seconds that DeepSpeed's collectives took since the last call, as part of backward and optimizer; None where they overlap."""
        from deepspeed.comm import comm

        if not comm.comms_logger.enabled:
            return None
        # The logger's own latencies add up from call to call; its timers can be read and set back.
        seconds: float = sum(comm.timers(operation).elapsed(reset=True) for operation in comm.comms_logger.comms_dict) / 1000
        comm.comms_logger.comms_dict.clear()
        return seconds

    def snapshot(self) -> dict[zero_state.Range, torch.Tensor]:
        """Copies on the CPU of this rank's share of the training state, for a checkpoint."""
        return self._state.snapshot()

    def load(self, read: zero_state.ReadRange, step: int) -> None:
        """Restore the state after `step` steps, whatever number of workers and ZeRO stage has saved it; a collective."""
        self._state.load(read, step, self._meeting.wait)

    def whole_weights(self) -> dict[str, torch.Tensor] | None:
        """All weights on the CPU, by name, on rank 0 and None elsewhere; a collective. One parameter at a time passes the device."""
        from deepspeed import zero

        is_first = self._meeting.rank == 0
        weights: dict[str, torch.Tensor] = {}
        for item in exported_weights(self.causal_lm):
            with zero.GatheredParameters(item.parameters, enabled=hasattr(item.parameters[0], "ds_id")):
                if is_first:
                    weights[item.name] = item.value().to("cpu", copy=True)
        return weights | saved_buffers(self.causal_lm) if is_first else None


def saved_buffers(causal_lm: Any) -> dict[str, torch.Tensor]:
    """Copies on the CPU of what a model saves besides its parameters: not buffers that are recomputed, as rotary frequencies."""
    saved = causal_lm.state_dict().keys()
    return {name: buffer.to("cpu", copy=True) for name, buffer in causal_lm.named_buffers() if name in saved}


def _layout(training: TrainingConfig) -> zero_state.Layout:
    """How DeepSpeed wraps AdamW for this stage and precision."""
    if training.zero_stage == 0:
        return zero_state.PARAMETERS if is_plain(training) else zero_state.COPIES
    return zero_state.SHARDS if training.zero_stage == 3 else zero_state.PARTITIONS


def load_model(training: TrainingConfig, model: str, adapter: str | None = None) -> Any:
    """The causal language model with the attention that packed rows need, in the precision of the training."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from cgd_ray.training.model.attention import implementation_for

    attention = implementation_for(AutoConfig.from_pretrained(model))
    causal_lm = AutoModelForCausalLM.from_pretrained(model, dtype=DTYPES[training.precision], attn_implementation=attention)
    if adapter is not None:
        merge(read_adapter(adapter), causal_lm)
    return causal_lm


def _wait_for_collectives(engine: Any, timeout: timedelta) -> None:
    """DeepSpeed copies the process group without its timeout: torch gives the copy 10 minutes on GPUs. There is no other way to set it."""
    from torch.distributed.distributed_c10d import _set_pg_timeout

    for group in {id(group): group for group in (engine.data_parallel_group, engine.seq_data_parallel_group)}.values():
        _set_pg_timeout(timeout, group)


def _load_sharded(training: TrainingConfig, model: str, adapter: str | None, meeting: Meeting) -> Any:
    """The model with every parameter split over the ranks from the start: only rank 0 ever holds it whole, in host memory."""
    from deepspeed import zero
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from cgd_ray.training.model.attention import implementation_for

    config = AutoConfig.from_pretrained(model)
    with zero.Init(config_dict_or_path=init_settings(training)), no_init_weights():
        sharded = AutoModelForCausalLM.from_config(config, attn_implementation=implementation_for(config), dtype=DTYPES[training.precision])
    sharded.tie_weights()  # no_init_weights leaves this out as well
    source = load_model(training, model, adapter) if meeting.rank == 0 else None
    whole = {} if source is None else dict(source.named_parameters())
    meeting.wait()
    for name, parameter in sharded.named_parameters():
        with zero.GatheredParameters(parameter, modifier_rank=0), torch.no_grad():
            if whole:
                parameter.copy_(whole[name])
    buffers = [None if source is None else saved_buffers(source)]  # few and small: for instance what balances DeepSeek's experts
    torch.distributed.broadcast_object_list(buffers)
    for name, value in (buffers[0] or {}).items():
        sharded.get_buffer(name).copy_(value)
    return sharded


def _adamw(training: TrainingConfig, causal_lm: Any) -> torch.optim.Optimizer:
    """Matrices decay, vectors (norms, biases) do not. ZeRO-3 shows every parameter as empty, hence ds_shape."""
    parameters = [parameter for parameter in causal_lm.parameters() if parameter.requires_grad]
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for parameter in parameters:
        groups[len(getattr(parameter, "ds_shape", parameter.shape)) > 1].append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "weight_decay": training.weight_decay if decays else 0.0} for decays, members in groups.items() if members],
        lr=0.0,  # set at every step; until then DeepSpeed's set-up must not move a weight
        betas=training.betas,
        fused=True,
    )
