"""The records that are durably written, of this run or of another one, as far as this version of the code understands them.

A part of an unfinished generation counts once the ids that it holds are committed (dataflow.py); before that a killed run takes it back.
How to use: `for part in record_parts(run.records): ...` of a finished generation, `durable_records(run.records).parts` of any; beside one
that runs `arrivals = Arrivals(run)`, then now and then `for part in arrivals.new(): ...`, and once more after it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from cgd_ray.data.records import RECORD_SCHEMA, TURNS, WORK_SCHEMA, check_version, columns_of
from cgd_ray.data.rundir import RunDir, read_json, read_manifest

ALWAYS_THERE = (*WORK_SCHEMA.names, *(name for turn in TURNS for name in columns_of(turn)))
"""The columns of RECORD_SCHEMA that every generation writes."""
IDS = "ids"
"""Directory, in an unfinished generation's state, of each part's ids; a part's name begins with that of its ids' file without suffix."""
PENDING_SUFFIX = ".pending.parquet"  # Ray's name for the ids of a part that is being written
BEGUN = "fingerprint.json"
"""File in an unfinished generation's state that says what it makes."""


def record_parts(directory: Path) -> list[Path]:
    """The Parquet files. Raises ValueError when the generation is unfinished, or when its records are of another version or schema."""
    manifest = read_manifest(directory)
    if manifest is None:
        raise ValueError(f"records {directory} holds no finished records (no manifest.json); give RUN_DIR/records of a finished generation")
    check_version(manifest, directory)
    parts = [directory / part["path"] for part in manifest["parts"]]
    _check_schema(parts, directory)
    return parts


@dataclass(frozen=True, kw_only=True)
class Records:
    """What there is of a generation."""

    fingerprint: str
    """Names the models, prompts and sampling that made it."""
    parts: list[Path]
    """Parquet files."""

    @property
    def num_rows(self) -> int:
        """In all parts."""
        return sum(pq.read_metadata(part).num_rows for part in self.parts)


def durable_records(directory: Path) -> Records:
    """What no kill takes back, perhaps nothing. Raises ValueError for a directory without a generation, and as record_parts()."""
    if (manifest := read_manifest(directory)) is not None:
        return Records(fingerprint=manifest["fingerprint"], parts=record_parts(directory))
    state = RunDir(directory.parent).generation_state
    begun = read_json(state / BEGUN)
    if begun is None:
        raise ValueError(
            f"records {directory} holds no records (neither manifest.json nor {state / BEGUN}); give RUN_DIR/records of a generation"
        )
    check_version(begun, directory)
    parts = parts_of(committed(state / IDS), directory)
    _check_schema(parts, directory)
    return Records(fingerprint=begun["fingerprint"], parts=parts)


def committed(directory: Path) -> list[Path]:
    """The files of ids whose parts are durable, in the directory IDS of a generation's state."""
    return [file for file in sorted(directory.glob("*.parquet")) if not file.name.endswith(PENDING_SUFFIX)]


def parts_of(commits: Sequence[Path], records: Path) -> list[Path]:
    """The parts that hold the rows of files of ids, in their order; the directory is listed once, however many they are."""
    names = sorted(path.name for path in records.glob("*.parquet")) if commits else []
    parts: list[Path] = []
    for stem in (ids.stem for ids in commits):
        place = bisect_left(names, stem)
        while place < len(names) and names[place].startswith(stem):  # no slice: tens of thousands of parts would be copied for each commit
            parts.append(records / names[place])
            place += 1
    return parts


class Arrivals:
    """What has been written of a run's records, from the first part on, also those that a former driver has seen written."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._commits: set[Path] = set()
        self._parts: set[Path] = set()

    def new(self) -> list[Path]:
        """Parts that were not returned before. Raises ValueError for what record_parts() refuses."""
        is_finished = read_manifest(self._run.records) is not None
        parts = record_parts(self._run.records) if is_finished else self._newly_committed()
        new = [part for part in parts if part not in self._parts]
        self._parts.update(new)
        return new

    def _newly_committed(self) -> list[Path]:
        commits: list[Path] = []
        with suppress(FileNotFoundError):  # the generation has not begun, or it ends just now and its manifest tells next time
            commits = [ids for ids in committed(self._run.generation_state / IDS) if ids not in self._commits]
        self._commits.update(commits)
        return parts_of(commits, self._run.records)


def _check_schema(parts: list[Path], directory: Path) -> None:
    if not parts:
        return
    found = {field.name: field.type for field in pq.read_schema(parts[0])}
    expected = {name: RECORD_SCHEMA.field(name).type for name in ALWAYS_THERE}
    if different := [f"{name} is {found.get(name, 'missing')}, not {kind}" for name, kind in expected.items() if found.get(name) != kind]:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise ValueError(f"records {directory} are not what cgd_ray writes: {different[0]}{more}; give RUN_DIR/records of a generation")
