"""The training of one rank: plan, engine, steps, metrics, checkpoints, export. Knows torch.distributed, not Ray.

Every decision follows from the plan and the settings, which all ranks share; what is communicated is gradients, and the losses of each
step for the log. How to use: `run_training(job)` in every process of an initialised process group (worker.py does so).
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
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import write_json
from cgd_ray.process.host_memory import let_go_of_used_memory
from cgd_ray.training.checkpoints import store as checkpoints
from cgd_ray.training.checkpoints.export import export, export_checkpoint
from cgd_ray.training.checkpoints.model_card import model_card
from cgd_ray.training.checkpoints.restoring import newest_good
from cgd_ray.training.checkpoints.shards import Shards
from cgd_ray.training.checkpoints.writer import Saver
from cgd_ray.training.feed.plan import PackedPlan, Plan
from cgd_ray.training.feed.rows import PackedRows
from cgd_ray.training.feed.stream import StreamPlan, StreamRows
from cgd_ray.training.held_out_loss import HeldOutLoss
from cgd_ray.training.job import TrainJob
from cgd_ray.training.meeting import Meeting
from cgd_ray.training.model.determinism import repeat_every_bit
from cgd_ray.training.model.zero import ZeroEngine, use_accelerator
from cgd_ray.training.notices import Notice, Notices
from cgd_ray.training.observe.metrics import MetricsLog, read_metrics
from cgd_ray.training.observe.throughput import peak_flops, peak_memory_gib
from cgd_ray.training.observe.timing import StepTimer
from cgd_ray.training.observe.trackers import start_trackers
from cgd_ray.training.observe.work import model_flops

logger = logging.getLogger(__name__)

Metrics = dict[str, float]
OnSaved = Callable[[Metrics, Path], None]
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
    meeting: Meeting
    rank: int
    fingerprint: str
    saver: Saver
    held_out: HeldOutLoss | None


def run_training(
    job: TrainJob, on_saved: OnSaved = lambda metrics, checkpoint: None, is_preempted: Callable[[], bool] = lambda: False
) -> None:
    """Train from the newest checkpoint, or from the start, to the end; then export. All ranks call this.

    Asked to stop (notices.py), it saves and returns. `is_preempted` tells whether a node of the ranks is about to be taken away; a
    collective.
    """
    state = build_rank(job)
    notices = Notices(job.stop_flag, is_preempted, state.engine.device)
    step = restore(state)
    log = _open_log(state, step) if state.rank == 0 else None
    metrics: Metrics | None = None  # of the last step
    saving: Metrics | None = None  # of the step whose checkpoint is being written
    while True:
        state.plan.await_step(step, job.stop_flag)
        notice = notices.after_step()
        is_over = notice == Notice.STOP or not state.plan.has(step)
        if is_over or notice == Notice.SAVE:
            saving = save_next(state, saving, metrics, on_saved)
        if is_over:
            break
        metrics, problem = train_step(state, step)
        if problem is not None:
            finish_save(state, saving, on_saved)
            if log is not None:
                write_json(job.stopped_file, {"step": step + 1, "problem": problem})
                log.close()
            return
        step += 1
        if state.held_out is not None and is_validated(step, state):
            metrics |= {"validation/loss": state.held_out.mean(state.engine, state.rank)}
        if log is not None:
            log.write(metrics)
        if is_due(step, state):
            saving = save_next(state, saving, metrics, on_saved)
    finish_save(state, saving, on_saved)
    if log is not None:
        log.close()
    if notice != Notice.STOP:
        export_student(state)


def _open_log(state: Rank, step: int) -> MetricsLog:
    metrics = Path(state.job.metrics)
    return MetricsLog(metrics, step, start_trackers(state.training.trackers, metrics.parent, state.fingerprint, step))


def is_due(step: int, state: Rank) -> bool:
    """Whether a checkpoint follows this step, counted from 1, even if it is not the last one."""
    every = state.training.checkpoint_every_steps
    return every is not None and step % every == 0


def is_validated(step: int, state: Rank) -> bool:
    """Whether the held-out loss is measured after this step, counted from 1."""
    validation = state.training.validation
    assert validation is not None, "asked only when there are held-out rows"
    is_candidate = state.training.export == "best" and validation.choose_by == "loss" and is_due(step, state)
    return step % validation.every_steps == 0 or is_candidate or not state.plan.has(step)


def is_answered(step: int, state: Rank) -> bool:
    """Whether held-out problems are to be answered with the checkpoint of this step, counted from 1."""
    answers = None if state.training.validation is None else state.training.validation.answers
    return answers is not None and (step % answers.every_steps == 0 or not state.plan.has(step))


def export_student(state: Rank) -> None:
    """Publish the trained student: the last weights, or those of the best checkpoint by held-out loss. A collective.

    The best checkpoint by answers is not known yet; the driver exports it.
    """
    job, validation = state.job, state.training.validation
    if state.training.export == "last":
        weights = state.engine.whole_weights()
        if weights is not None:
            card = model_card(job, state.fingerprint, state.plan.num_steps, read_metrics(Path(job.metrics)))
            export(weights, job.model, state.training.precision, Path(job.export_to), state.fingerprint, job.chat_template, card)
    elif state.rank == 0 and validation is not None and validation.choose_by == "loss":
        best = checkpoints.best(Path(job.checkpoints), state.fingerprint, "loss", measured={})
        export_checkpoint(job, best, Path(job.export_to))
    state.meeting.wait()


def build_rank(job: TrainJob) -> Rank:
    """Load this rank's share of the model, and the plan."""
    training, meeting = job.training_config(), Meeting()
    torch.set_num_threads(max(1, int(training.cpus_per_worker or 1)))  # the driver has settled it
    torch.manual_seed(training.seed)
    use_accelerator(training.use_gpu)
    if training.deterministic:
        repeat_every_bit()
    if not training.use_gpu:
        let_go_of_used_memory()
    packed, rank, world_size = Path(job.packed), meeting.rank, meeting.world_size
    fingerprint = checkpoints.fingerprint(training, job.model, packed, job.adapter, job.stream)
    attempt, directory = meeting.told(secrets.token_hex(4)), Path(job.checkpoints)
    return Rank(
        job=job,
        training=training,
        plan=StreamPlan(training, packed, world_size) if training.streaming else PackedPlan.make(training, packed, world_size),
        rows=StreamRows(packed, training.global_batch_size) if training.streaming else PackedRows(packed),
        engine=ZeroEngine(training, job.model, meeting, job.adapter),
        meeting=meeting,
        rank=rank,
        fingerprint=fingerprint,
        saver=Saver(directory, fingerprint, attempt, rank, world_size, training.keep_checkpoints, job.measurements_file),
        held_out=None if job.validation is None else HeldOutLoss(training, Path(job.validation), world_size),
    )


def restore(state: Rank) -> int:
    """Load the newest good checkpoint; returns the number of steps that are done. A collective."""
    found = newest_good(Path(state.job.checkpoints), state.fingerprint, state.plan.consumed, state.meeting)
    if found is None:
        return 0
    state.engine.load(Shards(found.directory).read, found.step)
    logger.info("resumed after step %d from %s", found.step, found.directory)
    return found.step


def save_next(state: Rank, saving: Metrics | None, metrics: Metrics | None, on_saved: OnSaved) -> Metrics | None:
    """Begin to save the step with these metrics, unless that is what is being saved, once the save before is finished; returns its metrics.

    A collective.
    """
    if metrics is not None and metrics is not saving:
        finish_save(state, saving, on_saved)
        start_save(state, metrics)
    return metrics


def start_save(state: Rank, metrics: Metrics) -> None:
    """Copy this rank's share of the state and begin to write it; the training may go on meanwhile."""
    step = int(metrics["train/step"])
    details = {
        "step": step,
        "world_size": state.plan.world_size,
        "zero_stage": state.training.zero_stage,
        "validation_loss": metrics.get("validation/loss"),
        "is_answered": is_answered(step, state),
        "consumed": state.plan.consumed(step),
    }
    state.saver.start(state.engine.snapshot(), details)


def finish_save(state: Rank, metrics: Metrics | None, on_saved: OnSaved) -> None:
    """Wait until the checkpoint of the step with these metrics is complete, if one is being written, and tell of it. A collective."""
    if metrics is None:
        return
    state.saver.finish()
    state.meeting.wait()  # rank 0 has published it
    on_saved(metrics, checkpoints.directory_of(Path(state.job.checkpoints), int(metrics["train/step"])))


def train_step(state: Rank, step: int) -> tuple[Metrics, str | None]:
    """One optimizer step over the global batch; returns its metrics, and what is wrong when the numbers are no longer finite."""
    started = time.perf_counter()
    plan, engine, timer = state.plan, state.engine, StepTimer(state.engine.device)
    torch.manual_seed(int(short_hash(f"{state.training.seed}\x00{step}\x00{state.rank}"), 16))  # what is dropped outlives a resume
    learning_rate, global_targets = plan.learning_rate(step), plan.sizes(step).targets
    # W world size, M micro-batches: every rank fills its own places, so the sum over ranks also tells where a loss went wrong.
    losses_WM = torch.zeros(plan.world_size, plan.num_micro_batches, device=engine.device)
    for micro, rows in enumerate(plan.micro_batches(step, state.rank)):
        with timer.phase("data"):
            inputs = state.rows.batch(rows).to(engine.device)
        with timer.phase("forward"):
            loss_sum = engine.forward(inputs)
        with timer.phase("backward"):
            engine.backward(loss_sum, global_targets)
        with timer.phase("optimizer"):
            engine.end_micro_batch(learning_rate)
        losses_WM[state.rank, micro] = loss_sum.detach()
    dist.all_reduce(losses_WM)
    loss, grad_norm = losses_WM.sum().item() / global_targets, engine.grad_norm()
    problem = None
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        problem = _describe(state, step, loss, grad_norm, losses_WM)
    metrics = {
        "train/step": step + 1,
        **plan.position(step),
        "train/loss": loss,
        "train/grad_norm": grad_norm,
        "train/learning_rate": learning_rate,
        "train/world_size": plan.world_size,
        **{f"time/{phase}_s": seconds for phase, seconds in timer.seconds().items()},
        **_throughput(state, step, time.perf_counter() - started),
    }
    return metrics, problem


def _throughput(state: Rank, step: int, seconds: float) -> Metrics:
    """What the step has done in this time; communication and MFU only where they can be told."""
    plan, engine = state.plan, state.engine
    sizes = plan.sizes(step)
    peak, communication_s = peak_flops(engine.device), engine.communication_s()
    flops = model_flops(engine.model_size, sizes.tokens, sizes.targets, sizes.squares)
    return {
        "train/tokens": sizes.tokens,
        "train/target_tokens": sizes.targets,
        "train/tokens_per_s": sizes.tokens / seconds,
        "train/target_tokens_per_s": sizes.targets / seconds,
        **({} if peak is None else {"train/mfu": flops / seconds / (plan.world_size * peak)}),
        "time/step_s": seconds,
        **({} if communication_s is None else {"time/communication_s": communication_s}),
        "memory/peak_gib": peak_memory_gib(engine.device),
    }


def _describe(state: Rank, step: int, loss: float, grad_norm: float, losses_WM: torch.Tensor) -> str:
    """What went wrong, and in which records when single losses tell."""
    rank, micro = next(iter((~torch.isfinite(losses_WM)).nonzero().tolist()), (None, None))
    where = ""
    if rank is not None:
        names = state.rows.record_ids(state.plan.micro_batches(step, rank)[micro])
        where = f" in records {', '.join(names[:MAX_NAMED_RECORDS])}{' ...' if len(names) > MAX_NAMED_RECORDS else ''}"
    return f"step {step + 1}: loss {loss}, gradient norm {grad_norm}{where}"
