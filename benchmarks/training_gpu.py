"""One GPU: model FLOP/s utilisation, tokens/s and peak memory of full fine-tuning on packed rows of 4,096 tokens in bf16.

`python -m benchmarks.training_gpu [--json PATH]`: the shape of Qwen2.5-1.5B with random weights, CGD-shaped examples (three quarters of the
tokens without loss), this project's own step. Work is counted as 6 x parameters a token and 6 x layers x hidden size x length for its
attention within its example (training/throughput.py). `--shape small` shows on any machine, without a GPU too, that the script runs.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import one_rank, write_figures
from benchmarks.training import cgd_shaped
from cgd_ray.config import TrainingConfig
from cgd_ray.training.examples.example_files import write_examples
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.job import TrainJob
from cgd_ray.training.loop import build_rank, train_step
from tests.builders import tiny_model

WARM_UP_STEPS = 3
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-1.5b": {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "head_dim": 128,
    },
    "small": {"vocab_size": 32_768, "hidden_size": 128, "intermediate_size": 256},
}


def measure(
    root: Path, shape: str, context_length: int, num_steps: int, activation_checkpointing: bool, zero_stage: int, precision: Any
) -> dict[str, Any]:
    """The median step's figures."""
    training = TrainingConfig(
        precision=precision,
        context_length=context_length,
        global_batch_size=8,
        micro_batch_size=1,
        zero_stage=zero_stage,
        use_gpu=torch.cuda.is_available(),
        activation_checkpointing=activation_checkpointing,
    )
    num_rows = (WARM_UP_STEPS + num_steps + 1) * training.global_batch_size
    write_examples(cgd_shaped(num_rows * context_length, context_length), root / "examples", "benchmark")
    pack(context_length, root / "examples", root / "packed")
    model = tiny_model(root / "model", **{**SHAPES[shape], "max_position_embeddings": context_length})
    state = build_rank(
        TrainJob(
            training=training.model_dump(mode="json"),
            model=str(model),
            packed=str(root / "packed"),
            checkpoints=str(root / "checkpoints"),
            metrics=str(root / "metrics.jsonl"),
            export_to=str(root / "trained"),
        )
    )
    steps = [train_step(state, step)[0] for step in range(WARM_UP_STEPS + num_steps)][WARM_UP_STEPS:]

    def median(name: str) -> float | None:
        return statistics.median(step[name] for step in steps) if name in steps[0] else None

    device = state.engine.device
    return {
        "mfu": median("train/mfu"),
        "tokens_per_s": median("train/tokens_per_s"),
        "peak_gib": steps[-1]["memory/peak_gib"],
        "step_s": median("time/step_s"),
        "shape": shape,
        "parameters": state.engine.model_size.num_parameters,
        "context_length": context_length,
        "activation_checkpointing": activation_checkpointing,
        "zero_stage": zero_stage,
        "precision": precision,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
    }


def main() -> None:
    """Print the figures, and write them to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shape", choices=list(SHAPES), default="qwen2.5-1.5b")
    parser.add_argument("--context-length", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--zero-stage", type=int, choices=range(4), default=2)
    arguments = parser.parse_args()
    if arguments.shape != "small" and not torch.cuda.is_available():
        raise SystemExit(f"shape {arguments.shape} needs a GPU and this machine shows none; --shape small runs without")
    with one_rank("nccl" if torch.cuda.is_available() else "gloo") as root:
        figures = measure(
            root,
            arguments.shape,
            arguments.context_length,
            arguments.steps,
            arguments.activation_checkpointing,
            arguments.zero_stage,
            arguments.precision,
        )
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
