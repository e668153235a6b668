"""Training beside TRL's SFTTrainer: tokens/s and peak memory, with the same examples, model, batch, precision and ZeRO stage.

`python -m benchmarks.training [--json PATH]`: two ranks on CPU cores, each contestant in fresh processes, with its own packing. TRL runs
twice, with its chunked loss and with plain logits. CGD-shaped examples: three quarters of the tokens are context without loss.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from benchmarks.trainers import CONTESTANTS, Job
from cgd_ray.cluster.precision import this_cpu_computes_bf16
from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Example
from cgd_ray.training.examples.example_files import ExampleFiles, write_examples
from cgd_ray.training.examples.packing import pack
from tests.builders import tiny_model

NUM_RANKS = 2
TARGET_SHARE = 0.25
VOCABULARY = 32_768
MODEL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
"""43M parameters, of which the output layer, tied to the embedding, is 39 %; in Qwen2.5-0.5B it is 28 %."""


def cgd_shaped(num_tokens: int, context_length: int, seed: int = 0) -> dict[str, Example]:
    """Examples with lognormal lengths (median an eighth of the context, sigma 0.6), TARGET_SHARE of each with loss."""
    examples: dict[str, Example] = {}
    rng, total = np.random.default_rng(seed), 0
    while total < num_tokens:
        length = int(np.clip(rng.lognormal(np.log(context_length / 8), 0.6), 16, context_length))
        ids = rng.integers(3, VOCABULARY, length).tolist()
        examples[f"record-{len(examples)}"] = Example(input_ids=ids, prompt_length=round(length * (1 - TARGET_SHARE)))
        total += length
    return examples


def make_job(root: Path, num_steps: int, context_length: int, precision: Literal["bf16", "fp32"]) -> Job:
    """Write the model, the examples and the packed rows."""
    training = TrainingConfig(
        context_length=context_length,
        global_batch_size=4,
        micro_batch_size=1,
        num_workers=NUM_RANKS,
        zero_stage=2,
        precision=precision,
        learning_rate=1e-5,
        logits_chunk_tokens=256,  # as many as TRL's
    )
    # one step more than is run, for rows that are not full
    examples = cgd_shaped((num_steps + 3) * training.global_batch_size * context_length, context_length)
    write_examples(examples, root / "examples", "benchmark")
    files = ExampleFiles(root / "examples")
    pq.write_table(files.take(files.index_E), root / "examples.parquet")
    pack(context_length, root / "examples", root / "packed")
    return Job(
        model=str(tiny_model(root / "model", **{**MODEL, "max_position_embeddings": context_length})),
        examples=str(root / "examples.parquet"),
        packed=str(root / "packed"),
        training=training.model_dump(mode="json"),
        num_steps=num_steps,
        directory=str(root),
    )


def run(root: Path, job: Job, contestant: str) -> dict[str, Any]:
    """One contestant's figures."""
    task = root / "job.json"
    task.write_text(job.dumps(), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(NUM_RANKS)]
    with (root / f"{contestant}.log").open("w", encoding="utf-8") as log:
        finished = subprocess.run(
            [*launcher, "-m", "benchmarks.trainers", contestant, str(task)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            check=False,
        )
    if finished.returncode:
        raise SystemExit(f"{contestant} failed:\n" + "\n".join((root / f"{contestant}.log").read_text(encoding="utf-8").splitlines()[-30:]))
    seen = json.loads((root / f"{contestant}.json").read_text(encoding="utf-8"))
    steps = seen["step_seconds"]
    return {**seen, "tokens_per_s": seen["tokens"] / len(steps) / statistics.median(steps), "peak_gib": max(seen["peak_gib"])}


def main() -> None:
    """Print a table, and write the figures to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", type=int, default=6, help="measured steps of each contestant")
    parser.add_argument("--context-length", type=int, default=4096)
    native = "bf16" if this_cpu_computes_bf16() else "fp32"
    parser.add_argument("--precision", choices=["bf16", "fp32"], default=native, help="the CPU's own where it is not said")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        job = make_job(root, arguments.steps, arguments.context_length, arguments.precision)
        seen = {contestant: run(root, job, contestant) for contestant in CONTESTANTS}
    rivals = ("trl", "trl_chunked")
    figures = {
        "tokens_per_s_ratio_to_trl": seen["ours"]["tokens_per_s"] / max(seen[rival]["tokens_per_s"] for rival in rivals),
        "peak_memory_ratio_to_trl": seen["ours"]["peak_gib"] / min(seen[rival]["peak_gib"] for rival in rivals),
        "contestants": seen,
    }
    sys.stdout.write(f"{'':12} {'tokens/s':>9} {'peak GiB':>9} {'of it before the model':>23} {'first loss':>11}\n")
    for name, row in seen.items():
        line = f"{name:12} {row['tokens_per_s']:9,.0f} {row['peak_gib']:9.2f} {max(row['base_gib']):23.2f} {row['losses'][0]:11.4f}\n"
        sys.stdout.write(line)
    sys.stdout.write(
        f"against the better of TRL's two: {figures['tokens_per_s_ratio_to_trl']:.2f} x tokens/s, "
        f"{figures['peak_memory_ratio_to_trl']:.2f} x peak memory\n"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
