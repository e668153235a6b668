"""The exported student's README.md: what it is, what it was made from, and the fingerprints that tell one training from another.

How to use: `model_card(job, fingerprint, exported_step, read_metrics(job.metrics))`.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from cgd_ray.data.models import from_hub
from cgd_ray.data.rundir import read_manifest
from cgd_ray.training.job import TrainJob
from cgd_ray.training.observe.measurements import read_measurements
from cgd_ray.training.observe.totals import training_totals

MOST_HASHES = 4
PACKAGES = ("cgd-ray", "torch", "transformers", "deepspeed", "ray")


def model_card(job: TrainJob, fingerprint: str, exported_step: int, lines: Sequence[Mapping[str, float]]) -> str:
    """Markdown, with the header that the Hugging Face hub reads; `lines` are the steps' metrics."""
    training, packed = job.training_config(), read_manifest(Path(job.packed))
    assert packed is not None, "training starts on finished data only"
    report = training_totals(training, lines, read_measurements(job.measurements_file))
    base = _public_name(job.model)
    facts = {
        "base model": base if job.adapter is None else f"{base} with the adapter {_public_name(job.adapter)}",
        **{what: _public_name(name) for what, name in job.about.items()},
        "arm": training.arm_label,
        "method": "full fine-tuning" if training.lora is None else f"LoRA of rank {training.lora.rank}, merged",
        "examples": f"{packed['examples']:,} in {packed['rows']:,} packed rows, {training.num_epochs} epochs",
        "steps": f"{report['steps']:,} of {training.global_batch_size} rows; these weights are those after step {exported_step:,}",
        "tokens": f"{report['tokens']:,}, of which {report['target_tokens']:,} carried loss",
        "learning rate": f"{training.learning_rate:g} at its peak",
        "precision": training.precision,
        "loss": f"{report['first_loss']:.4f} at the first step, {report['last_loss']:.4f} at the last",
        "held-out loss": _held_out(report["best_validation_loss"], report["best_step"], report["validation_loss"]),
        "held-out pass@1": _answered(report["best_validation_pass@1"], report["best_pass@1_step"]),
        "fingerprint of the training": fingerprint,
        "fingerprint of the data": packed["fingerprint"],
        "SHA-256 of the packed data": _first_ones([part["sha256"] for part in packed["parts"]]),
        "versions": ", ".join(f"{package} {version(package)}" for package in PACKAGES),
    }
    header = {
        "base_model": base,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["critique-guided-distillation"],
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# {base}, trained by cgd_ray\n\n"
        f"A student of critique-guided distillation (arXiv 2505.11628), or of one of its controls: the arm says which.\n\n"
        f"| | |\n|---|---|\n{table}\n"
    )


def _first_ones(hashes: Sequence[str]) -> str:
    """Large data have hundreds of files, of which the run directory's manifest names all."""
    more = f" and those of {len(hashes) - MOST_HASHES} more files" if len(hashes) > MOST_HASHES else ""
    return ", ".join(hashes[:MOST_HASHES]) + more


def _answered(best: float | None, best_step: int | None) -> str:
    return "not measured" if best is None else f"{best:.1%} at best, after step {best_step}"


def _public_name(name: str) -> str:
    """A hub name as it is; of a path its last part, which says nothing about the machine."""
    if (found := from_hub(name)) is not None:
        return found.name
    return Path(name).name if Path(name).is_absolute() else name


def _held_out(best: float | None, best_step: int | None, last: float | None) -> str:
    return "not measured" if best is None else f"{best:.4f} at best, after step {best_step}; {last:.4f} at the last step"
