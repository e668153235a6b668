"""The trained student as a Hugging Face directory: safetensors shards, config, tokenizer, chat template, generation settings.

It appears under its final name at once and complete, with a manifest, or not at all. Both transformers and vLLM load it.
That of a checkpoint is made from the checkpoint's files alone, so no rank is asked for anything: one process holds the model in host
memory, and ranges of parameters are read from whatever ranks and ZeRO stage have written them.
How to use: `export(weights, model, precision, directory, fingerprint)` on one rank; `export_checkpoint(job, best(...), directory)`.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.rundir import read_manifest, write_json, write_manifest
from cgd_ray.training.checkpoints.model_card import model_card
from cgd_ray.training.checkpoints.shards import Shards
from cgd_ray.training.checkpoints.store import Saved
from cgd_ray.training.job import TrainJob
from cgd_ray.training.model.lora import add_adapters, exported_weights
from cgd_ray.training.model.zero import DTYPES, load_model, saved_buffers
from cgd_ray.training.observe.metrics import read_metrics

MAX_SHARD_SIZE = "4GB"
COPIED = (
    "tokenizer*",
    "vocab*",
    "merges*",
    "special_tokens_map*",
    "added_tokens*",
    "chat_template*",
    "additional_chat_templates/*",
    "generation_config*",
)


def export(
    weights: Mapping[str, torch.Tensor],
    model: str,
    precision: str,
    directory: Path,
    fingerprint: str,
    chat_template: str | None = None,
    card: str | None = None,
) -> None:
    """Write `weights` (names of named_parameters(), a tied one once) as a model of the same kind as `model`, with its model card.

    `chat_template` is the file with the template of a model that has none: the student needs it, and stops where it was taught to.
    """
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    dtype = DTYPES[precision]
    with torch.device("meta"):  # the shell has no weights; it knows their names on disk, which are tied, and how to shard them
        shell = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=dtype)
    converted = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    shell.save_pretrained(temporary, state_dict=converted, max_shard_size=MAX_SHARD_SIZE)
    _copy_companions(model, temporary)
    if chat_template is not None:
        shutil.copyfile(chat_template, temporary / "chat_template.jinja")
    _stop_at_the_end_token(temporary)
    if card is not None:
        (temporary / "README.md").write_text(card, encoding="utf-8")
    parts = [path for path in temporary.rglob("*") if path.is_file()]
    write_manifest(temporary, fingerprint, parts, {"precision": precision})
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)


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


def _copy_companions(model: str, target: Path) -> None:
    """Copy what is neither weights nor config byte for byte, so that prompts are tokenised as in training."""
    source = Path(model)
    if not source.is_dir():
        from huggingface_hub import snapshot_download

        source = Path(snapshot_download(model, allow_patterns=list(COPIED)))
    for pattern in COPIED:
        for path in source.glob(pattern):
            destination = target / path.relative_to(source)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)


def _stop_at_the_end_token(directory: Path) -> None:
    """Add the token that the training ends every answer with to those that end a generation; a base model's settings lack it."""
    end = Chat.load(str(directory)).end_token_id
    file = directory / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    named = settings.get("eos_token_id")
    ends = named if isinstance(named, list) else [] if named is None else [named]
    if end not in ends:
        write_json(file, {**settings, "eos_token_id": [*ends, end]})
