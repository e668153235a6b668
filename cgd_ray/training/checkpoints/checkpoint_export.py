"""The student of a checkpoint as a Hugging Face directory, from the checkpoint's files alone: no rank is asked for anything.

One process holds the model in host memory; ranges of parameters are read from whatever ranks and ZeRO stage have written them.
How to use: `export_checkpoint(job, checkpoints.best(...), directory)`.
"""

from pathlib import Path

import torch

from cgd_ray.config import TrainingConfig
from cgd_ray.data.rundir import read_manifest
from cgd_ray.training.checkpoints.export import export
from cgd_ray.training.checkpoints.model_card import model_card
from cgd_ray.training.checkpoints.shards import Shards
from cgd_ray.training.checkpoints.store import Saved
from cgd_ray.training.job import TrainJob
from cgd_ray.training.model.lora import add_adapters, exported_weights
from cgd_ray.training.model.zero import load_model, saved_buffers
from cgd_ray.training.observe.metrics import read_metrics


def export_checkpoint(job: TrainJob, saved: Saved, directory: Path) -> None:
    """Publish the student after the checkpoint's step as `directory`."""
    manifest = read_manifest(saved.directory)
    assert manifest is not None, "the caller has found it"
    training, fingerprint = job.training_config(), manifest["fingerprint"]
    weights = checkpoint_weights(training, job.model, saved.directory, job.adapter)
    card = model_card(job, fingerprint, saved.step, read_metrics(Path(job.metrics)))
    export(weights, job.model, training.precision, directory, fingerprint, job.chat_template, card)


def checkpoint_weights(training: TrainingConfig, model: str, checkpoint: Path, adapter: str | None = None) -> dict[str, torch.Tensor]:
    """What ZeroEngine.whole_weights() was after the checkpoint's step, bit by bit."""
    causal_lm = load_model(training, model, adapter)
    if training.lora is not None:
        add_adapters(causal_lm, training.lora, training.seed)
    shards = Shards(checkpoint)
    with torch.no_grad():
        for name, parameter in causal_lm.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(shards.read("weight", name, 0, parameter.numel()).view_as(parameter))
        weights = {item.name: item.value() for item in exported_weights(causal_lm)}
    return weights | saved_buffers(causal_lm)
