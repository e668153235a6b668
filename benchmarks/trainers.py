"""The contestants of benchmarks/training.py: one rank of one training each, started by torch.distributed.run.

`python -m torch.distributed.run --standalone --nproc-per-node 2 -m benchmarks.trainers {ours,trl,trl_chunked} JOB.json`; rank 0 writes what
was seen beside the job.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from cgd_ray.config import TrainingConfig
from cgd_ray.training.job import TrainJob
from cgd_ray.training.loop import build_rank, train_step
from cgd_ray.training.model.zero import DTYPES, use_accelerator
from cgd_ray.training.observe.throughput import peak_memory_gib

WARM_UP_STEPS = 2  # allocators, oneDNN's primitives


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every contestant trains."""

    model: str
    """Model directory."""
    examples: str
    """Parquet file of EXAMPLE_SCHEMA, for packers of their own."""
    packed: str
    """The same examples, packed by this project."""
    training: dict[str, Any]
    """The TrainingConfig, dumped: batch, context, precision, ZeRO stage, rate, seed."""
    num_steps: int
    """Measured steps, after WARM_UP_STEPS."""
    directory: str
    """Receives what the contestants write."""

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one contestant did, over the measured steps; no token counts that is padding."""

    tokens: int
    seconds: float
    step_seconds: list[float]
    losses: list[float]
    peak_gib: list[float]
    """Of each rank, with everything that is imported."""
    base_gib: list[float]
    """The same before the model was loaded."""


def ours(job: Job) -> Outcome:
    """This project's loop over its own packed rows."""
    training = TrainingConfig.model_validate(job.training)
    base = peak_memory_gib(torch.device("cpu"))
    state = build_rank(
        TrainJob(
            training=job.training,
            model=job.model,
            packed=job.packed,
            checkpoints=f"{job.directory}/checkpoints",
            metrics=f"{job.directory}/metrics.jsonl",
            export_to=f"{job.directory}/model",
        )
    )
    assert state.plan.num_steps >= WARM_UP_STEPS + job.num_steps, f"{state.plan.num_steps} steps of {training.global_batch_size} rows"
    seconds, losses, tokens = [], [], 0
    for step in range(WARM_UP_STEPS + job.num_steps):
        started = time.perf_counter()
        metrics, _ = train_step(state, step)
        if step >= WARM_UP_STEPS:
            seconds.append(time.perf_counter() - started)
            losses.append(metrics["train/loss"])
            tokens += int(metrics["train/tokens"])
    return _outcome(tokens, seconds, losses, base)


def trl(job: Job, loss_type: str) -> Outcome:
    """TRL's SFTTrainer with its own packing, on DeepSpeed with the same settings."""
    training = TrainingConfig.model_validate(job.training)
    use_accelerator(training.use_gpu)
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.begun = 0.0
            self.seconds: list[float] = []

        def on_step_begin(self, *unused: Any, **more: Any) -> None:
            self.begun = time.perf_counter()

        def on_step_end(self, *unused: Any, **more: Any) -> None:
            self.seconds.append(time.perf_counter() - self.begun)

    base = peak_memory_gib(torch.device("cpu"))
    num_steps = WARM_UP_STEPS + job.num_steps
    half = training.precision == "bf16"
    arguments = SFTConfig(
        output_dir=f"{job.directory}/trl",
        loss_type=loss_type,
        completion_only_loss=True,
        packing=True,
        max_length=training.context_length,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.micro_batches_per_step(dist.get_world_size()),
        max_steps=num_steps,
        learning_rate=training.learning_rate,
        max_grad_norm=training.max_grad_norm,
        adam_beta1=training.betas[0],
        adam_beta2=training.betas[1],
        bf16=half,
        use_cpu=not training.use_gpu,
        gradient_checkpointing=training.activation_checkpointing,
        deepspeed=_deepspeed_settings(training),
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=training.seed,
    )
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=DTYPES[training.precision])
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(_prompts_and_completions(Path(job.examples))),
        processing_class=AutoTokenizer.from_pretrained(job.model),
        callbacks=[clock],
    )
    trainer.train()
    logged = [line for line in trainer.state.log_history if "loss" in line][:num_steps]
    losses, tokens = [line["loss"] for line in logged], [int(line["num_tokens"]) for line in logged]
    return _outcome(tokens[-1] - tokens[WARM_UP_STEPS - 1], clock.seconds[WARM_UP_STEPS:], losses[WARM_UP_STEPS:], base)


CONTESTANTS: dict[str, Callable[[Job], Outcome]] = {
    "ours": ours,
    "trl": lambda job: trl(job, "nll"),
    "trl_chunked": lambda job: trl(job, "chunked_nll"),
}


def _deepspeed_settings(training: TrainingConfig) -> dict[str, Any]:
    """What a user of TRL would write. Gradients add up in bf16 then; this project's own settings add them up in fp32."""
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "zero_optimization": {"stage": training.zero_stage, "overlap_comm": training.use_gpu},
        "zero_force_ds_cpu_optimizer": False,
    }


def _prompts_and_completions(examples: Path) -> list[dict[str, Any]]:
    """Rows as TRL takes them ready tokenised: the loss is on what the mask marks."""
    rows = pq.read_table(examples, columns=["input_ids", "prompt_length"]).to_pylist()
    return [
        {
            "input_ids": row["input_ids"],
            "completion_mask": [int(index >= row["prompt_length"]) for index in range(len(row["input_ids"]))],
        }
        for row in rows
    ]


def _outcome(tokens: int, seconds: list[float], losses: list[float], base_gib: float) -> Outcome:
    peaks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(peaks, (peak_memory_gib(torch.device("cpu")), base_gib))
    return Outcome(
        tokens=tokens,
        seconds=sum(seconds),
        step_seconds=seconds,
        losses=losses,
        peak_gib=[peak for peak, _ in peaks],
        base_gib=[base for _, base in peaks],
    )


def main() -> None:
    """Take part as one rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contestant", choices=list(CONTESTANTS))
    parser.add_argument("job", type=Path)
    arguments = parser.parse_args()
    os.environ["DS_ACCELERATOR"] = "cpu"
    dist.init_process_group("gloo")
    job = Job(**json.loads(arguments.job.read_text(encoding="utf-8")))
    torch.set_num_threads(1)
    outcome = CONTESTANTS[arguments.contestant](job)
    if dist.get_rank() == 0:
        (Path(job.directory) / f"{arguments.contestant}.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
