"""Training checkpoints on shared storage: one directory per saved step, accepted only when its manifest's hashes match.

DeepSpeed's files are pickles, so what is loaded must be what this project wrote: every byte is hashed first. A torn or damaged newest
checkpoint falls back to the one before; one of other data, model or settings is refused.
How to use: `found = newest(checkpoints, fingerprint, world_size)`.
"""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgd_ray.config import TrainingConfig
from cgd_ray.records import short_hash
from cgd_ray.rundir import file_sha256, read_manifest, write_manifest

logger = logging.getLogger(__name__)

NO_EFFECT = ("num_workers", "cpus_per_worker", "use_gpu", "max_failures", "checkpoint_every_steps", "zero_stage")
"""Settings that do not change which numbers come out, so a checkpoint outlives their change."""

KEPT = 2  # the newest, and the one before in case the newest turns out damaged


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A complete checkpoint."""

    directory: Path
    step: int
    """Optimizer steps that had been taken."""


def fingerprint(training: TrainingConfig, model: str, packed: Path) -> str:
    """Names everything that decides the weights after n steps: settings, packed data, initial model."""
    data = read_manifest(packed)
    assert data is not None, "training starts on finished data only"
    settings = {name: value for name, value in training.model_dump(mode="json").items() if name not in NO_EFFECT}
    content = {"training": settings, "packed": [part["sha256"] for part in data["parts"]], "model": _model_identity(model)}
    return short_hash(json.dumps(content, sort_keys=True))


def directory_of(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint after this many steps lives."""
    return checkpoints / f"step-{step:08d}"


def make_room(directory: Path) -> None:
    """Remove what a killed save may have left; one rank calls this before all write."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def publish(directory: Path, step: int, name: str, world_size: int, zero_stage: int) -> None:
    """Declare a checkpoint complete, after all ranks have written their files."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    write_manifest(directory, name, files, {"step": step, "world_size": world_size, "zero_stage": zero_stage})


def prune(checkpoints: Path, step: int) -> None:
    """Keep the checkpoint of this step and the complete ones before it, KEPT in all; a later one is damaged, or it would have been resumed.

    Not left to Ray: it keeps a list of paths, and a step that is saved again after a damaged checkpoint is in it twice.
    """
    complete = [path.parent for path in sorted(checkpoints.glob("step-*/manifest.json")) if path.parent <= directory_of(checkpoints, step)]
    for directory in checkpoints.glob("step-*"):
        if directory not in complete[-KEPT:]:
            shutil.rmtree(directory)


def newest(checkpoints: Path, name: str, world_size: int, zero_stage: int) -> Saved | None:
    """The newest complete and undamaged checkpoint, or None.

    Raises ValueError when the newest was made from other data, settings or model, or by another number of workers or ZeRO stage.
    """
    for directory in sorted(checkpoints.glob("step-*"), reverse=True):
        manifest = _undamaged_manifest(directory)
        if manifest is None:
            continue
        if manifest["fingerprint"] != name:
            raise ValueError(
                f"checkpoint {directory} was made from other data, model or settings (fingerprint {manifest['fingerprint']}, "
                f"this training's is {name}); remove {checkpoints} to train anew"
            )
        for setting, here in (("num_workers", world_size), ("zero_stage", zero_stage)):
            there = manifest["world_size" if setting == "num_workers" else setting]
            if there != here:
                raise ValueError(
                    f"checkpoint {directory} was made with training.{setting}={there}, now it is {here}; set it back to resume"
                )
        return Saved(directory=directory, step=manifest["step"])
    return None


def _undamaged_manifest(directory: Path) -> dict[str, Any] | None:
    try:
        manifest = read_manifest(directory)
    except ValueError as error:
        logger.warning("checkpoint %s is damaged and skipped: %s", directory, error)
        return None
    if manifest is None:
        logger.warning("checkpoint %s is incomplete and skipped", directory)
        return None
    changed = [part["path"] for part in manifest["parts"] if file_sha256(directory / part["path"]) != part["sha256"]]
    if changed:
        logger.warning("checkpoint %s is damaged and skipped: %s does not match its hash", directory, changed[0])
        return None
    return manifest


def _model_identity(model: str) -> Any:
    """Content of a local model's config and the sizes of its weights; a hub model's name."""
    directory = Path(model)
    if not directory.is_dir():
        return model
    return {
        "config": file_sha256(directory / "config.json"),
        "weights": [(path.name, path.stat().st_size) for path in sorted(directory.glob("*.safetensors"))],
    }
