"""Records to packed rows: examples/s and padding, beside TRL's SFTTrainer on the same conversations.

`python -m benchmarks.packing [--json PATH]`: the tinymath world's problems, attempts, critiques and refinements, written as selected
records. *Preparing* is everything from there to rows that can be trained on: wording, chat template, tokens, masks, packing, files.
TRL prepares in the constructor of its trainer, with as many processes as there are cores. *Packing* alone is timed as well, on lengths
as real answers have them, since both pack in one process.
"""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.figures import write_figures
from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.records import SELECTED_SCHEMA, make_record_id
from cgd_ray.data.rundir import write_manifest
from cgd_ray.training.examples.arms import ARMS
from cgd_ray.training.examples.example_files import EXAMPLE_SCHEMA, INDEX_TYPE, example_file, example_writer, write_index
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.examples.texts import ROWS_PER_BATCH
from cgd_ray.training.examples.writing import make_examples
from examples.tinymath.mistakes import varied_solver, write_critique
from examples.tinymath.problems import make_problem

TINYMATH = Path("examples/tinymath")
STUDENT = TINYMATH / "models" / "student"
TRAINING = TrainingConfig(context_length=4096)
NUM_CORES = os.cpu_count() or 1


def make_records(count: int) -> list[dict[str, Any]]:
    """Rows as the selection leaves them, all kept."""
    rng, rows = random.Random(0), []
    for index in range(count):
        problem = make_problem(rng)
        attempt = varied_solver(rng).attempt(problem, rng).text
        rows.append(
            {
                **dict.fromkeys(SELECTED_SCHEMA.names),
                "record_id": make_record_id(str(index), 0),
                "problem_id": str(index),
                "sample_index": 0,
                "question": problem.question,
                "attempt": attempt,
                "critique": write_critique(problem, attempt),
                "refinement": problem.solution(),
                "verdict": "wrong",
            }
        )
    return rows


def prepare_here(root: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    """This project's two steps, each from file to file."""
    part = root / "selected" / "selected.parquet"
    part.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=SELECTED_SCHEMA), part)
    write_manifest(part.parent, "benchmark", [part], {})
    started = time.perf_counter()
    chat, prompts = Chat.load(str(STUDENT)), load_prompts(str(TINYMATH / "prompts.yaml"))
    make_examples(TRAINING, chat, prompts, part.parent, root / "examples")
    report = pack(TRAINING.context_length, root / "examples", root / "packed")
    seconds = time.perf_counter() - started
    return {"examples_per_s": len(rows) / seconds, "tokens_per_s": report["tokens"] / seconds, "padding": 1 - report["fill"]}


def prepare_in_trl(root: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    """The same conversations through SFTTrainer's constructor."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    prompts = load_prompts(str(TINYMATH / "prompts.yaml"))
    conversations = []
    for row in rows:
        example = ARMS["cgd"](row, prompts)
        conversations.append(
            {
                "prompt": [{"role": message.role, "content": message.content} for message in example.messages],
                "completion": [{"role": "assistant", "content": example.target}],
            }
        )
    dataset = Dataset.from_list(conversations)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(STUDENT), AutoTokenizer.from_pretrained(STUDENT)
    arguments = SFTConfig(
        output_dir=str(root / "trl"),
        packing=True,
        max_length=TRAINING.context_length,
        dataset_num_proc=NUM_CORES,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    started = time.perf_counter()
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer)
    seconds = time.perf_counter() - started
    lengths = [sum(row) for row in trainer.train_dataset["seq_lengths"]]
    fill = sum(lengths) / (len(lengths) * TRAINING.context_length)
    return {"examples_per_s": len(rows) / seconds, "tokens_per_s": sum(lengths) / seconds, "padding": 1 - fill}


def pack_only(root: Path, count: int) -> dict[str, dict[str, float]]:
    """Both packers on ready tokens: lognormal lengths, median 900, sigma 0.6, cut to the context."""
    from datasets import Dataset
    from trl import pack_dataset

    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(900), 0.6, count), 8, TRAINING.context_length).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = pa.ListArray.from_arrays(offsets, pa.array(rng.integers(3, 32_000, offsets[-1], dtype=np.int32)))
    prompts = pa.array((lengths * 0.75).astype(np.int32))
    names = pa.array([make_record_id(str(index), 0) for index in range(count)])
    ready = root / "ready"
    with example_writer(example_file(ready, 0)) as writer:
        writer.write_table(pa.Table.from_arrays([names, ids, prompts], schema=EXAMPLE_SCHEMA), max_chunksize=ROWS_PER_BATCH)
    index = np.zeros(count, INDEX_TYPE)
    index["row"], index["num_tokens"], index["num_targets"] = np.arange(count), lengths, lengths - prompts.to_numpy()
    index_file = write_index(ready, count, [index[pc.sort_indices(names).to_numpy()]])
    write_manifest(ready, "benchmark", [example_file(ready, 0), index_file], {})
    report = pack(TRAINING.context_length, ready, root / "ready_packed")
    mask = pa.ListArray.from_arrays(offsets, pa.array(np.ones(offsets[-1], dtype=np.int32)))
    dataset = Dataset(pa.Table.from_arrays([ids, mask], names=["input_ids", "completion_mask"]))
    started = time.perf_counter()
    packed = pack_dataset(dataset, TRAINING.context_length, "bfd")
    seconds = time.perf_counter() - started
    fill = float(lengths.sum()) / (len(packed) * TRAINING.context_length)
    return {
        "ours": {"examples_per_s": count / report["seconds"], "padding": 1 - report["fill"]},
        "trl": {"examples_per_s": count / seconds, "padding": 1 - fill},
    }


def main() -> None:
    """Print the figures, and write them to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--ready", type=int, default=50_000, help="examples for packing alone")
    arguments = parser.parse_args()
    rows = make_records(arguments.records)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        preparing = {"ours": prepare_here(root, rows), "trl": prepare_in_trl(root, rows)}
        packing = pack_only(root, arguments.ready)
    figures = {
        "padding": packing["ours"]["padding"],
        "examples_per_s": preparing["ours"]["examples_per_s"],
        "ratio_to_trl": preparing["ours"]["examples_per_s"] / preparing["trl"]["examples_per_s"],
        "preparing": preparing,
        "packing": packing,
    }
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
