"""How long a checkpoint holds the training up, written at once and written in the background, and how long steps wait for data.

`python -m benchmarks.checkpoint [--json PATH]`: one process, a Qwen3 of 8M parameters in fp32 with ZeRO 2, a save every 4 steps.
The stall of a save is the time from the end of a step to the start of the next that the save takes away.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import one_rank, write_figures
from cgd_ray.config import TrainingConfig
from cgd_ray.training.job import TrainJob
from cgd_ray.training.loop import Rank, build_rank, finish_save, start_save, train_step
from tests.builders import packed_examples, random_examples, tiny_model

NUM_SAVES = 6
STEPS_BETWEEN = 4
MODEL = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 6, "head_dim": 64}


def measure(state: Rank, in_background: bool) -> dict[str, Any]:
    """Stalls of NUM_SAVES saves; the last one's end is not waited for by any step, so it does not count."""
    stalls, steps, step = [], [], 0
    saving: dict[str, float] | None = None
    for _ in range(NUM_SAVES):
        for _ in range(STEPS_BETWEEN):
            metrics, _ = train_step(state, step)
            steps.append(metrics)
            step += 1
        started = time.perf_counter()
        finish_save(state, saving, lambda metrics, directory: None)
        start_save(state, metrics)
        saving = metrics
        if not in_background:
            finish_save(state, saving, lambda metrics, directory: None)
            saving = None
        stalls.append(time.perf_counter() - started)
    finish_save(state, saving, lambda metrics, directory: None)
    return {
        "stall_s": statistics.median(stalls),
        "stalls_s": stalls,
        "step_s": statistics.median(line["time/step_s"] for line in steps),
        "data_wait": sum(line["time/data_s"] for line in steps) / sum(line["time/step_s"] for line in steps),
    }


def run(root: Path) -> dict[str, Any]:
    """Both ways to save, one after the other, from the same state."""
    training = TrainingConfig(context_length=512, global_batch_size=4, precision="fp32", num_epochs=16, zero_stage=2)
    model = tiny_model(root / "model", **MODEL)
    packed = packed_examples(root, training, random_examples(16, shortest=200, longest=500))
    results = {}
    for name in ("synchronous", "background"):
        job = TrainJob(
            training=training.model_dump(mode="json"),
            model=str(model),
            packed=str(packed),
            checkpoints=str(root / name),
            metrics=str(root / f"{name}.jsonl"),
            export_to=str(root / f"{name}-model"),
        )
        state = build_rank(job)
        results[name] = measure(state, in_background=name == "background")
        results[name]["bytes"] = sum(path.stat().st_size for path in (root / name).glob("step-*/*"))
    return {
        "stall_ratio": results["background"]["stall_s"] / results["synchronous"]["stall_s"],
        "data_wait": results["background"]["data_wait"],
        **results,
    }


def main() -> None:
    """Print the figures, and write them to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with one_rank() as root:
        figures = run(root)
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
