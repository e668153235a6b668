"""A whole training in a few numbers, from its metrics; training/report.json and the model card hold them.

How to use: `training_totals(training, read_metrics(job.metrics), read_measurements(job.measurements_file))`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cgd_ray.config import TrainingConfig
from cgd_ray.training.observe.measurements import MeasurementsByStep


def training_totals(training: TrainingConfig, lines: Sequence[Mapping[str, float]], measured: MeasurementsByStep) -> dict[str, Any]:
    """What the whole training has done.

    steps, first_loss, last_loss, tokens, target_tokens, tokens_per_s (of the steps), world_size (at the end), zero_stage, data_wait (share
    of the steps' time), peak_gib (most on rank 0), mfu (mean; null where the device's peak is not known), validation_loss (last; null
    without validation), best_validation_loss and best_step; validation_pass@1 {step: pass@1} (null without answers of checkpoints),
    best_validation_pass@1 and best_pass@1_step.
    """

    def total(name: str) -> float:
        return sum(line[name] for line in lines)

    validated = [line for line in lines if "validation/loss" in line]
    best = min(validated, key=lambda line: line["validation/loss"], default=None)
    pass_at_1 = {step: line["pass@1"] for step, line in sorted(measured.items()) if "pass@1" in line}
    best_answered = max(reversed(pass_at_1), key=lambda step: pass_at_1[step], default=None)
    utilisation = [line["train/mfu"] for line in lines if "train/mfu" in line]
    return {
        "steps": len(lines),
        "first_loss": lines[0]["train/loss"],
        "last_loss": lines[-1]["train/loss"],
        "tokens": total("train/tokens"),
        "target_tokens": total("train/target_tokens"),
        "tokens_per_s": total("train/tokens") / total("time/step_s"),
        "world_size": int(lines[-1]["train/world_size"]),
        "zero_stage": training.zero_stage,
        "data_wait": total("time/data_s") / total("time/step_s"),
        "peak_gib": max(line["memory/peak_gib"] for line in lines),
        "mfu": sum(utilisation) / len(utilisation) if utilisation else None,
        "validation_loss": validated[-1]["validation/loss"] if validated else None,
        "best_validation_loss": best["validation/loss"] if best else None,
        "best_step": int(best["train/step"]) if best else None,
        "validation_pass@1": pass_at_1 or None,
        "best_validation_pass@1": None if best_answered is None else pass_at_1[best_answered],
        "best_pass@1_step": best_answered,
    }
