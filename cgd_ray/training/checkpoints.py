"""Training checkpoints on shared storage: one directory per saved step, accepted only when its manifest's hashes match.

A directory appears under its final name at once and complete. A damaged newest checkpoint falls back to the one before; one of other
data, model or settings is refused; another number of workers or ZeRO stage is no obstacle.
How to use: `found = newest(checkpoints, fingerprint)`.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgd_ray.config import EXECUTION_ONLY, TrainingConfig
from cgd_ray.records import short_hash
from cgd_ray.rundir import file_sha256, read_json, read_manifest, write_json

logger = logging.getLogger(__name__)

NO_EFFECT = tuple(name.removeprefix("training.") for name in EXECUTION_ONLY if name.startswith("training."))
"""Settings that do not change which numbers come out, so a checkpoint outlives their change."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A complete checkpoint."""

    directory: Path
    step: int
    """Optimizer steps that had been taken."""
    validation_loss: float | None
    """On the held-out examples; null when it was not measured at this step."""
    consumed: str | None
    """Names what its steps have consumed of data that were not finished when it was made; null where they were."""


def fingerprint(training: TrainingConfig, model: str, packed: Path, stream: str | None = None) -> str:
    """Names everything that decides the weights after n steps: settings, packed data, initial model.

    `stream` stands for packed data that are still being made; what a checkpoint has consumed of them is then named in the checkpoint.
    """
    settings = {name: value for name, value in training.model_dump(mode="json").items() if name not in NO_EFFECT}
    content = {"training": settings, "packed": stream or _hashes(packed), "model": _model_identity(model)}
    return short_hash(json.dumps(content, sort_keys=True))


def _hashes(packed: Path) -> list[str]:
    data = read_manifest(packed)
    assert data is not None, "without a stream, training starts on finished data only"
    return [part["sha256"] for part in data["parts"]]


def directory_of(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint after this many steps lives."""
    return checkpoints / f"step-{step:08d}"


def publish(written: Path, checkpoints: Path, name: str, parts: Sequence[Mapping[str, Any]], details: Mapping[str, Any]) -> Path:
    """Make the files of `written` the checkpoint after details["step"] steps; `parts` are their manifest entries. Returns its directory."""
    write_json(written / "manifest.json", {"fingerprint": name, "parts": list(parts), **details})
    directory = directory_of(checkpoints, details["step"])
    _remove(directory)
    written.rename(directory)
    return directory


def prune(checkpoints: Path, keep: int, saved_step: int) -> None:
    """Remove all but the newest `keep` checkpoints and the one with the least held-out loss.

    Those after `saved_step`, which has just been saved, were found damaged and taken again: they go too, and do not count as the newest.
    """
    directories = sorted(checkpoints.glob("step-*"), reverse=True)
    for directory in [directory for directory in directories if directory > directory_of(checkpoints, saved_step)]:
        directories.remove(directory)
        _remove(directory)
    losses = {directory: (read_json(directory / "manifest.json") or {}).get("validation_loss") for directory in directories}
    measured = {directory: loss for directory, loss in losses.items() if loss is not None}
    best = min(measured, key=lambda directory: measured[directory], default=None)
    for directory in directories[keep:]:
        if directory != best:
            _remove(directory)


def remove_leftovers(checkpoints: Path) -> None:
    """Remove what killed writers have left; nobody may be writing."""
    for directory in checkpoints.glob(".*.tmp"):
        shutil.rmtree(directory, ignore_errors=True)


def newest(checkpoints: Path, name: str, consumed: Callable[[int], str | None] = lambda num_steps: None) -> Saved | None:
    """The newest complete and undamaged checkpoint, or None; `consumed` names what a number of steps consumes of unfinished data.

    Raises ValueError when the newest was made from other data, settings or model.
    """
    saved = next(_whole(checkpoints, name), None)
    if saved is not None and saved.consumed != (now := consumed(saved.step)):
        raise ValueError(
            f"checkpoint {saved.directory} has consumed other rows than its {saved.step} steps hold now (fingerprint {saved.consumed}, "
            f"now {now}); remove {checkpoints} to train anew"
        )
    return saved


def best(checkpoints: Path, name: str) -> Saved:
    """The complete and undamaged checkpoint with the least held-out loss; the last one when they are equal."""
    measured = [saved for saved in _whole(checkpoints, name) if saved.validation_loss is not None]
    if not measured:
        raise ValueError(f"{checkpoints} holds no undamaged checkpoint with a held-out loss; set training.export to last")
    return min(measured, key=lambda saved: saved.validation_loss or 0.0)


def _whole(checkpoints: Path, name: str) -> Iterator[Saved]:
    """Complete and undamaged checkpoints, newest first."""
    for directory in sorted(checkpoints.glob("step-*"), reverse=True):
        manifest = _undamaged_manifest(directory)
        if manifest is None:
            continue
        if manifest["fingerprint"] != name:
            raise ValueError(
                f"checkpoint {directory} was made from other data, model or settings (fingerprint {manifest['fingerprint']}, "
                f"this training's is {name}); remove {checkpoints} to train anew"
            )
        yield Saved(
            directory=directory, step=manifest["step"], validation_loss=manifest["validation_loss"], consumed=manifest.get("consumed")
        )


def _remove(directory: Path) -> None:
    """In two steps, so that half a checkpoint is never found under its name."""
    if directory.exists():
        condemned = directory.with_name(f".{directory.name}.removed.tmp")
        directory.rename(condemned)
        shutil.rmtree(condemned)


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
