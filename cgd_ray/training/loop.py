"""The training of one rank: plan, engine, steps, metrics, checkpoints, export. Knows torch.distributed, not Ray.

Every decision follows from the plan and the settings, which all ranks share; what is communicated is gradients, and the losses of each
step for the log. How to use: `run_training(job, report)` in every process of an initialised process group (worker.py does so).
"""

import logging
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from cgd_ray.config import TrainingConfig
from cgd_ray.rundir import write_json
from cgd_ray.training import checkpoints
from cgd_ray.training.batches import PackedRows, Plan
from cgd_ray.training.export import export
from cgd_ray.training.job import TrainJob
from cgd_ray.training.metrics import MetricsLog
from cgd_ray.training.saving import Saver
from cgd_ray.training.zero import ZeroEngine, use_accelerator

logger = logging.getLogger(__name__)

Report = Callable[[dict[str, float], Path], None]
"""Called by all ranks once a checkpoint is complete: the metrics of its step and its directory."""

MAX_NAMED_RECORDS = 8  # in the message about a loss that is no number


@dataclass(frozen=True, kw_only=True)
class Rank:
    """What one process works with for the whole training."""

    job: TrainJob
    training: TrainingConfig
    plan: Plan
    rows: PackedRows
    engine: ZeroEngine
    rank: int
    fingerprint: str
    saver: Saver


def run_training(job: TrainJob, report: Report) -> None:
    """Train from the newest checkpoint, or from the start, to the end; then export. All ranks call this."""
    state = build_rank(job)
    step = restore(state)
    log = MetricsLog(Path(job.metrics), step) if state.rank == 0 else None
    saving: dict[str, float] | None = None  # the metrics of the step whose checkpoint is being written
    while step < state.plan.num_steps:
        metrics, problem = train_step(state, step)
        if problem is not None:
            finish_save(state, saving, report)
            if log is not None:
                write_json(job.stopped_file, {"step": step + 1, "problem": problem})
            return
        step += 1
        if log is not None:
            log.write(metrics)
        if step == state.plan.num_steps or (state.training.checkpoint_every_steps and step % state.training.checkpoint_every_steps == 0):
            finish_save(state, saving, report)
            start_save(state, step)
            saving = metrics
    finish_save(state, saving, report)
    weights = state.engine.whole_weights()
    if weights is not None:
        export(weights, job.model, state.training.precision, Path(job.export_to), state.fingerprint)
    dist.barrier()


def build_rank(job: TrainJob) -> Rank:
    """Load this rank's share of the model, and the plan."""
    training = job.training_config()
    torch.set_num_threads(max(1, int(training.cpus_per_worker)))
    torch.manual_seed(training.seed)
    use_accelerator(training.use_gpu)
    packed = Path(job.packed)
    fingerprint = checkpoints.fingerprint(training, job.model, packed)
    attempt = [secrets.token_hex(4)]
    dist.broadcast_object_list(attempt)
    return Rank(
        job=job,
        training=training,
        plan=Plan.make(training, packed, dist.get_world_size()),
        rows=PackedRows(packed),
        engine=ZeroEngine(training, job.model, dist.get_world_size()),
        rank=dist.get_rank(),
        fingerprint=fingerprint,
        saver=Saver(Path(job.checkpoints), fingerprint, attempt[0], dist.get_rank(), dist.get_world_size(), training.keep_checkpoints),
    )


def restore(state: Rank) -> int:
    """Load the newest good checkpoint; returns the number of steps that are done. Rank 0 chooses for all."""
    choice: list[checkpoints.Saved | ValueError | None] = [None]
    if state.rank == 0:
        directory = Path(state.job.checkpoints)
        checkpoints.remove_leftovers(directory)
        try:
            choice = [checkpoints.newest(directory, state.fingerprint)]
        except ValueError as error:
            choice = [error]
    dist.broadcast_object_list(choice)
    if isinstance(choice[0], ValueError):
        raise choice[0]
    if choice[0] is None:
        return 0
    state.engine.load(choice[0].directory, choice[0].step)
    logger.info("resumed after step %d from %s", choice[0].step, choice[0].directory)
    return choice[0].step


def start_save(state: Rank, step: int) -> None:
    """Copy this rank's share of the state and begin to write it; the training may go on meanwhile."""
    details = {"step": step, "world_size": state.plan.world_size, "zero_stage": state.training.zero_stage}
    state.saver.start(state.engine.snapshot(), details)


def finish_save(state: Rank, metrics: dict[str, float] | None, report: Report) -> None:
    """Wait until the checkpoint of the step with these metrics is complete, if one is being written, and report it. A collective."""
    if metrics is None:
        return
    state.saver.finish()
    dist.barrier()  # rank 0 has published it
    report(metrics, checkpoints.directory_of(Path(state.job.checkpoints), int(metrics["train/step"])))


def train_step(state: Rank, step: int) -> tuple[dict[str, float], str | None]:
    """One optimizer step over the global batch; returns its metrics, and what is wrong when the numbers are no longer finite."""
    started = time.perf_counter()
    plan, engine = state.plan, state.engine
    learning_rate = learning_rate_at(step, plan.num_steps, state.training)
    global_targets = int(plan.targets_SG[step].sum())
    data_s = 0.0
    # W world size, M micro-batches: every rank fills its own places, so the sum over ranks also tells where a loss went wrong.
    losses_WM = torch.zeros(plan.world_size, plan.num_micro_batches, device=engine.device)
    for micro, (rows, num_chunks) in enumerate(zip(plan.micro_batches(step, state.rank), plan.num_chunks(step), strict=True)):
        asked = time.perf_counter()
        inputs = state.rows.batch(rows).to(engine.device)
        data_s += time.perf_counter() - asked
        losses_WM[state.rank, micro] = engine.accumulate({**inputs, "num_chunks": num_chunks}, global_targets)
        engine.end_micro_batch(learning_rate)
    dist.all_reduce(losses_WM)
    loss, grad_norm = losses_WM.sum().item() / global_targets, engine.grad_norm()
    problem = None
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        problem = _describe(state, step, loss, grad_norm, losses_WM)
    seconds = time.perf_counter() - started
    tokens = int(plan.tokens_SG[step].sum())
    metrics = {
        "train/step": step + 1,
        "train/num_steps": plan.num_steps,
        "train/epoch": (step + 1) / plan.steps_per_epoch,
        "train/loss": loss,
        "train/grad_norm": grad_norm,
        "train/learning_rate": learning_rate,
        "train/tokens": tokens,
        "train/target_tokens": global_targets,
        "train/tokens_per_s": tokens / seconds,
        "train/world_size": plan.world_size,
        "time/step_s": seconds,
        "time/data_s": data_s,
    }
    return metrics, problem


def learning_rate_at(step: int, num_steps: int, training: TrainingConfig) -> float:
    """Rate of the step with this index: a linear warm-up to the peak, then a cosine down to its final share at the last step."""
    num_warmup = math.ceil(training.warmup_fraction * num_steps)
    if step < num_warmup:
        return training.learning_rate * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - 1 - num_warmup)
    final = training.final_learning_rate_fraction
    return training.learning_rate * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def _describe(state: Rank, step: int, loss: float, grad_norm: float, losses_WM: torch.Tensor) -> str:
    """What went wrong, and in which records when single losses tell."""
    rank, micro = next(iter((~torch.isfinite(losses_WM)).nonzero().tolist()), (None, None))
    where = ""
    if rank is not None:
        names = state.rows.record_ids(state.plan.micro_batches(step, rank)[micro])
        where = f" in records {', '.join(names[:MAX_NAMED_RECORDS])}{' ...' if len(names) > MAX_NAMED_RECORDS else ''}"
    return f"step {step + 1}: loss {loss}, gradient norm {grad_norm}{where}"
