"""Training checkpoints on shared storage: one directory per saved step, accepted only when its manifest's hashes match.

A directory appears under its final name at once and complete. A damaged newest checkpoint falls back to the one before; one of other
data, model or settings is refused; another number of workers or ZeRO stage is no obstacle.
How to use: `found = newest(checkpoints, fingerprint)`.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cgd_ray.config import EXECUTION_ONLY, TrainingConfig, identity
from cgd_ray.data.models import from_hub
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import file_sha256, read_json, read_manifest, write_json
from cgd_ray.engines.adapters import adapter_identity
from cgd_ray.training.observe.measurements import MeasurementsByStep

logger = logging.getLogger(__name__)

NO_EFFECT = tuple(name.removeprefix("training.") for name in EXECUTION_ONLY if name.startswith("training.") and name.count(".") == 1)
"""Settings that do not change which numbers come out, so a checkpoint outlives their change."""
ONLY_MEASURED = {"answers", "choose_by"}
"""Settings of training.validation of which the same is true."""

ChooseBy = Literal["loss", "pass@1"]
ChangedParts = Callable[[Path, Sequence[Mapping[str, Any]]], list[str]]
"""Of the files with these manifest entries in a directory: which have other bytes than were written."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A complete checkpoint."""

    directory: Path
    step: int
    """Optimizer steps that had been taken."""
    validation_loss: float | None
    """On the held-out examples; null when it was not measured at this step."""
    is_answered: bool
    """Whether held-out problems are to be answered with it."""
    consumed: str | None
    """Names what its steps have consumed of data that were not finished when it was made; null where they were."""

    @classmethod
    def of(cls, directory: Path, manifest: Mapping[str, Any]) -> "Saved":
        """What a manifest says."""
        return cls(
            directory=directory,
            step=manifest["step"],
            validation_loss=manifest["validation_loss"],
            is_answered=manifest["is_answered"],
            consumed=manifest["consumed"],
        )


def fingerprint(training: TrainingConfig, model: str, packed: Path, adapter: str | None = None, stream: str | None = None) -> str:
    """Names everything that decides the weights after n steps: settings, packed data, initial model.

    `stream` stands for packed data that are still being made; what a checkpoint has consumed of them is then named in the checkpoint.
    """
    settings = identity(training, exclude=NO_EFFECT)
    if settings["validation"] is not None:
        settings["validation"] = {name: value for name, value in settings["validation"].items() if name not in ONLY_MEASURED}
    content: dict[str, Any] = {"training": settings, "packed": stream or _hashes(packed), "model": _model_identity(model)}
    if adapter is not None:
        content["adapter"] = adapter_identity(adapter)
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


def prune(checkpoints: Path, keep: int, saved_step: int, measured: MeasurementsByStep) -> None:
    """Remove all but the newest `keep` checkpoints, the best ones, and those whose answers are still awaited.

    Those after `saved_step`, which has just been saved, were found damaged and taken again: they go too, and do not count as the newest.
    """
    directories = sorted(checkpoints.glob("step-*"), reverse=True)
    for directory in [directory for directory in directories if directory > directory_of(checkpoints, saved_step)]:
        directories.remove(directory)
        _remove(directory)
    found = [Saved.of(directory, manifest) for directory in directories if (manifest := read_json(directory / "manifest.json")) is not None]
    spared = {saved.directory for saved in found if _is_awaited(saved, measured)}
    for choose_by in get_args(ChooseBy):
        spared.update(saved.directory for saved in _by_score(found, choose_by, measured)[:1])
    for directory in directories[keep:]:
        if directory not in spared:
            _remove(directory)


def awaited(checkpoints: Path, measured: MeasurementsByStep) -> list[Saved]:
    """Checkpoints that held-out problems are still to be answered with, oldest first."""
    found = []
    for directory in sorted(checkpoints.glob("step-*")):
        with suppress(FileNotFoundError):  # pruned while it is looked at
            if (manifest := read_json(directory / "manifest.json")) is not None:
                found.append(Saved.of(directory, manifest))
    return [saved for saved in found if _is_awaited(saved, measured)]


def remove_leftovers(checkpoints: Path) -> None:
    """Remove what killed writers have left; nobody may be writing."""
    for directory in checkpoints.glob(".*.tmp"):
        shutil.rmtree(directory, ignore_errors=True)


def changed_parts(directory: Path, parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Read these files and tell which have other bytes than were written."""
    return [part["path"] for part in parts if file_sha256(directory / part["path"]) != part["sha256"]]


def newest(
    checkpoints: Path,
    name: str,
    consumed: Callable[[int], str | None] = lambda num_steps: None,
    changed: ChangedParts = changed_parts,
) -> Saved | None:
    """The newest complete and undamaged checkpoint, or None; `consumed` names what a number of steps consumes of unfinished data.

    Raises ValueError when the newest was made from other data, settings or model.
    """
    saved = next((saved for saved in _complete(checkpoints, name) if _is_undamaged(saved.directory, changed)), None)
    if saved is not None and saved.consumed != (now := consumed(saved.step)):
        raise ValueError(
            f"checkpoint {saved.directory} has consumed other rows than its {saved.step} steps hold now (fingerprint {saved.consumed}, "
            f"now {now}); remove {checkpoints} to train anew"
        )
    return saved


def best(checkpoints: Path, name: str, choose_by: ChooseBy, measured: MeasurementsByStep) -> Saved:
    """The complete and undamaged checkpoint with the least held-out loss or the highest pass@1; the last one when they are equal."""
    by_score = _by_score(list(_complete(checkpoints, name)), choose_by, measured)
    found = next((saved for saved in by_score if _is_undamaged(saved.directory)), None)
    if found is None:
        remedies = {"loss": "set training.export to last", "pass@1": "mend what validation.jsonl names and remove it to measure again"}
        raise ValueError(f"{checkpoints} holds no undamaged checkpoint with a held-out {choose_by}; {remedies[choose_by]}")
    return found


def checked(directory: Path) -> Saved:
    """This checkpoint. Raises ValueError when it is incomplete or damaged."""
    manifest = _complete_manifest(directory)
    if manifest is None or not _is_undamaged(directory):
        raise ValueError(f"checkpoint {directory} is incomplete or damaged; it is not measured")
    return Saved.of(directory, manifest)


def _complete(checkpoints: Path, name: str) -> Iterator[Saved]:
    """Checkpoints whose files have the right names and sizes, newest first."""
    for directory in sorted(checkpoints.glob("step-*"), reverse=True):
        manifest = _complete_manifest(directory)
        if manifest is None:
            continue
        if manifest["fingerprint"] != name:
            raise ValueError(
                f"checkpoint {directory} was made from other data, model or settings (fingerprint {manifest['fingerprint']}, "
                f"this training's is {name}); remove {checkpoints} to train anew"
            )
        yield Saved.of(directory, manifest)


def _by_score(newest_first: Sequence[Saved], choose_by: ChooseBy, measured: MeasurementsByStep) -> list[Saved]:
    """Those that were measured, the best first; the newest of equal ones."""
    scores = [(saved, score) for saved in newest_first if (score := _score(saved, choose_by, measured)) is not None]
    return [saved for saved, _ in sorted(scores, key=lambda scored: -scored[1])]


def _score(saved: Saved, choose_by: ChooseBy, measured: MeasurementsByStep) -> float | None:
    """The more the better; None when it was not measured."""
    if choose_by == "pass@1":
        return measured.get(saved.step, {}).get("pass@1")
    return None if saved.validation_loss is None else -saved.validation_loss


def _is_awaited(saved: Saved, measured: MeasurementsByStep) -> bool:
    return saved.is_answered and saved.step not in measured


def _remove(directory: Path) -> None:
    """In two steps, so that half a checkpoint is never found under its name."""
    if directory.exists():
        condemned = directory.with_name(f".{directory.name}.removed.tmp")
        directory.rename(condemned)
        shutil.rmtree(condemned)


def _complete_manifest(directory: Path) -> dict[str, Any] | None:
    try:
        manifest = read_manifest(directory)
    except ValueError as error:
        logger.warning("checkpoint %s is damaged and skipped: %s", directory, error)
        return None
    if manifest is None:
        logger.warning("checkpoint %s is incomplete and skipped", directory)
    return manifest


def _is_undamaged(directory: Path, changed: ChangedParts = changed_parts) -> bool:
    """Whether the files of a complete checkpoint have the bytes that were written."""
    manifest = read_manifest(directory)
    assert manifest is not None, "the caller has read it as well"
    if damaged := changed(directory, manifest["parts"]):
        logger.warning("checkpoint %s is damaged and skipped: %s does not match its hash", directory, damaged[0])
    return not damaged


def _model_identity(model: str) -> Any:
    """Content of a local model's config and the sizes of its weights; a hub model's name and commit."""
    if (found := from_hub(model)) is not None:
        return str(found)
    directory = Path(model)
    if not directory.is_dir():
        return model
    return {
        "config": file_sha256(directory / "config.json"),
        "weights": [(path.name, path.stat().st_size) for path in sorted(directory.glob("*.safetensors"))],
    }
