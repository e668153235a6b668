"""Every path of a run, and how files become visible: written aside, fsynced, renamed, then named in a manifest with their hashes.

A stage is finished when its manifest is there; readers trust only manifests, so a killed writer leaves nothing that is taken for
data. How to use: `run = RunDir(config.run_dir); run.check(config, contents); run.claim(config, contents)`.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cgd_ray.config import Config, differing_settings, without_places
from cgd_ray.config.yaml_text import read_yaml
from cgd_ray.data.json_text import read_object
from cgd_ray.data.prompts import Prompts, load_prompts

WORKING_DIRS = "working_dir_files"
"""Directory, in each node's Ray session, into which Ray copies what `ray job submit --working-dir` names."""


class RunDir:
    """The layout of one run directory."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.config = self.root / "config.yaml"
        self.prompts = self.root / "prompts.yaml"
        self.contents = self.root / "contents.json"
        self.summary = self.root / "summary.json"
        self.plan = self.root / "plan.json"
        self.logs = self.root / "logs"
        self.seconds = self.root / "seconds.json"
        self.work_list = self.root / "work" / "work_list.parquet"
        self.generation_state = self.root / "work" / "generation"
        self.decontamination = self.root / "work" / "decontamination.json"
        self.spending = self.root / "work" / "spending"
        self.lease = self.root / "work" / "lease"
        self.records = self.root / "records"
        self.selected = self.root / "selected"
        self.examples = self.root / "training" / "examples"
        self.packed = self.root / "training" / "packed"
        self.validation_work_list = self.root / "training" / "validation" / "work_list.parquet"
        self.validation_examples = self.root / "training" / "validation" / "examples"
        self.validation_packed = self.root / "training" / "validation" / "packed"
        self.checkpoints = self.root / "training" / "checkpoints"
        self.metrics = self.root / "training" / "metrics.jsonl"
        self.training_report = self.root / "training" / "report.json"
        self.model = self.root / "model"
        self.differences = self.root / "evaluation" / "comparison.json"
        self.diagnostics = self.root / "diagnostics"
        self.report = self.root / "report.html"

    def evaluation_work_list(self, benchmark: str) -> Path:
        """What is asked of every model that is evaluated; `problems` is evaluation.problems."""
        return self.root / "work" / "evaluation" / f"{benchmark}.parquet"

    def evaluation(self, name: str) -> Path:
        """Directory of an evaluated model, `base`, `trained` or another, with one for each benchmark: answers, grades and report."""
        return self.root / "evaluation" / name

    def evaluated(self) -> dict[str, dict[str, Path]]:
        """Each evaluated model's directories of benchmarks whose reports are there, by their names; base and trained come first."""
        found: dict[str, dict[str, Path]] = {name: {} for name in ("base", "trained")}
        for manifest in sorted(self.root.glob("evaluation/*/*/manifest.json")):
            home = manifest.parent
            found.setdefault(home.parent.name, {})[home.name] = home
        return found

    def recorded_config(self) -> Config | None:
        """The config that the directory was begun with; None where there is none, or none that this version can read."""
        if not self.config.exists():
            return None
        with suppress(ValidationError):
            return Config.model_validate(_read_identity(self.config))
        return None

    def check(self, config: Config, contents: Mapping[str, str] | None = None) -> None:
        """Raise ValueError when the directory takes nothing, is Ray's or belongs to another config; makes nothing but the log directory.

        `contents` names what is behind settings that are paths, by their dotted keys: what is the same may lie elsewhere than before.
        """
        self.check_place()
        for path, mine in self._identity(config).items():
            found = differing_settings(without_places(self._recorded(path, mine)), without_places(mine))
            if differences := [difference for difference in found if not self._is_moved(difference[0], contents or {})]:
                key, old, new = differences[0]
                more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
                what = f"{path.stem} {key} was {old!r} and is {new!r}{more}"
                raise ValueError(
                    f"run_dir {self.root} belongs to another config: {what}; choose another run_dir (with "
                    f"generation.reuse=[{self.records}] what stays the same is not made again)"
                )

    def check_place(self) -> None:
        """Raise ValueError when the directory takes nothing or is Ray's; makes nothing but the log directory."""
        if WORKING_DIRS in self.root.parts:
            raise ValueError(
                f"run_dir {self.root} is inside Ray's copy of the job's working directory, which goes with the cluster; give an absolute "
                "path on storage that all nodes share, run_dir=/..."
            )
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            with _removed(self.root / f".probe-{os.getpid()}") as probe:
                probe.write_bytes(b"0")  # a full disk may still have room for a name
        except OSError as error:
            raise ValueError(f"run_dir {self.root} is not writable ({error.strerror}); choose another run_dir") from None

    def claim(self, config: Config, contents: Mapping[str, str] | None = None) -> None:
        """Make the directory this config's own, which `check` has allowed: the resolved config and wording are written into it."""
        write_json(self.contents, contents or {})
        for path, content in self._identity(config).items():
            with atomic_write(path) as temporary:
                temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def _is_moved(self, key: str, contents: Mapping[str, str]) -> bool:
        """Whether what a setting names is what it was, at another place."""
        return key in contents and (read_json(self.contents) or {}).get(key) == contents[key]

    def _recorded(self, path: Path, mine: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a file of the directory's identity says, `mine` where there is none; what an older version did not know is default."""
        if not path.exists():
            return mine
        if path == self.config and (recorded := self.recorded_config()) is not None:
            return recorded.model_dump(mode="json")
        theirs = _read_identity(path)
        return {**(asdict(Prompts()) if path == self.prompts else {}), **theirs}

    def _identity(self, config: Config) -> dict[Path, dict[str, Any]]:
        """What makes a run this run: each file's content."""
        return {self.config: config.model_dump(mode="json"), self.prompts: asdict(load_prompts(config.prompts))}


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, not what a run was begun with; choose another run_dir")
    return content


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed into place, on failure removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _removed(path.with_name(f".{path.name}.{os.getpid()}.tmp")) as temporary:
        yield temporary
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)


@contextmanager
def _removed(path: Path) -> Iterator[Path]:
    """Yield a path at which there is nothing afterwards."""
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Publish a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file, or None when there is none yet."""
    if not path.exists():
        return None
    return read_object(path)


def write_manifest(directory: Path, fingerprint: str, parts: Iterable[Path], details: Mapping[str, Any]) -> None:
    """Declare a stage's directory finished: `parts` are its files, `details` whatever the stage reports (row counts, seconds)."""
    entries = []
    directory.mkdir(parents=True, exist_ok=True)  # a stage may have no files
    for part in sorted(parts):
        _fsync(part)  # Ray's writers have not
        entries.append({"path": str(part.relative_to(directory)), "bytes": part.stat().st_size, "sha256": file_sha256(part)})
    _fsync(directory)
    write_json(directory / "manifest.json", {"fingerprint": fingerprint, "parts": entries, **details})


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage, or None when it is unfinished. Raises ValueError when a named part is gone or changed in size."""
    manifest = read_json(directory / "manifest.json")
    if manifest is None:
        return None
    for part in manifest["parts"]:
        file = directory / part["path"]
        size = file.stat().st_size if file.exists() else None
        if size != part["bytes"]:
            raise ValueError(f"{file} has {size} bytes, its manifest says {part['bytes']}; remove {directory} to make it again")
    return manifest


def manifest_parts(directory: Path) -> list[Path]:
    """The files a finished stage consists of."""
    manifest = read_manifest(directory)
    if manifest is None:
        raise ValueError(f"{directory} has no manifest.json, so the stage that writes it is unfinished; run it first")
    return [directory / part["path"] for part in manifest["parts"]]


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
