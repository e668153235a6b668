"""A disk that is full or read-only: one line says so, nothing half-written is taken for data, and afterwards the same call ends well.

The disk is a small file system in memory, mounted for the test, which takes root.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from cgd_ray.config import SelectionConfig
from cgd_ray.data.records import PROBLEM_SCHEMA, RECORD_SCHEMA
from cgd_ray.data.rundir import RunDir, manifest_parts, read_json, read_manifest, write_json, write_manifest
from cgd_ray.engines.api.spending import Journal, Purchase, spent
from cgd_ray.generation.pipeline import generate
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.process.faults import StageFailedError, failing
from cgd_ray.selection.selection import select_records
from cgd_ray.training.checkpoints.shards import Shards
from cgd_ray.training.checkpoints.store import newest
from cgd_ray.training.checkpoints.writer import Saver
from cgd_ray.training.examples.example_files import write_examples
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.model.zero_state import Range
from tests.builders import random_examples, read_parts, tiny_model, tiny_records
from tests.chaos.driver import make_config
from tests.fakes import FakeEngines

DISK_BYTES = 4 * 2**20
PAGE_BYTES = 4096
NUM_ROWS = 160


class Disk:
    """A mounted file system that can be filled and made read-only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def fill(self, free_bytes: int = 0) -> None:
        """Leave so much room."""
        with self._ballast.open("wb", buffering=0) as stream:
            space = os.statvfs(self.root)
            for _ in range(space.f_bavail * space.f_frsize // PAGE_BYTES - free_bytes // PAGE_BYTES):
                stream.write(b"\0" * PAGE_BYTES)

    def make_room(self) -> None:
        self._ballast.unlink()

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.root], check=True)

    def make_writable(self) -> None:
        subprocess.run(["mount", "-o", "remount,rw", self.root], check=True)


FULL = r"No space left on device: /\S+; make room there, then the same command goes on from here"
READ_ONLY = r"Read-only file system: /\S+; make it writable, then the same command goes on from here"
FAULTS: dict[str, tuple[Callable[[Disk], None], Callable[[Disk], None], str]] = {
    "full": (Disk.fill, Disk.make_room, FULL),
    "full in the middle": (lambda disk: disk.fill(2 * PAGE_BYTES), Disk.make_room, FULL),
    "read-only": (Disk.make_read_only, Disk.make_writable, READ_ONLY),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", root], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield Disk(root)
    subprocess.run(["umount", "--lazy", root], check=True)  # an engine that is just ending may hold a file


def told(work: Callable[[], object], root: Path) -> str:
    """What the user reads of the work's failure."""
    with pytest.raises(StageFailedError) as failed, failing(root, root / "logs"):
        work()
    return str(failed.value)


def prepared(root: Path) -> RunDir:
    run = RunDir(root)
    rows = [{"problem_id": f"p{number}", "question": f"What is {number} + 1?"} for number in range(NUM_ROWS)]
    write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples=1), run.work_list)
    return run


def assert_exactly_once(run: RunDir) -> None:
    records = pa.concat_tables([pq.read_table(part) for part in manifest_parts(run.records)])
    assert sorted(records["record_id"].to_pylist()) == sorted(pq.read_table(run.work_list)["record_id"].to_pylist())
    assert {path.name for path in run.records.glob("*.parquet")} == {path.name for path in manifest_parts(run.records)}


@pytest.mark.parametrize("free_kib", [0, pytest.param(96, marks=pytest.mark.slow)])
def test_a_generation_that_fills_the_disk_goes_on_when_there_is_room(free_kib: int, disk: Disk, ray_local: None) -> None:
    run = prepared(disk.root / "run")
    config, engines = make_config(run.root), FakeEngines(latency_s=0.01)
    disk.fill(free_kib * 1024)
    assert told(lambda: generate(config, run, engine_factory=engines), run.root) == (
        f"No space left on device: {run.root}; make room there, then the same command goes on from here"
    )
    assert read_manifest(run.records) is None
    disk.make_room()
    manifest = generate(config, run, engine_factory=engines)
    assert_exactly_once(run)
    assert manifest["failed"] == 0
    assert (manifest["resumed"] > 0) == (free_kib > 0)  # what was finished before is kept


@pytest.mark.slow  # a full disk is met by the same line of the code
def test_a_generation_on_a_read_only_disk_goes_on_when_it_is_writable(disk: Disk, ray_local: None) -> None:
    run = prepared(disk.root / "run")
    config, engines = make_config(run.root), FakeEngines()
    disk.make_read_only()
    assert "Read-only file system" in told(lambda: generate(config, run, engine_factory=engines), run.root)
    disk.make_writable()
    generate(config, run, engine_factory=engines)
    assert_exactly_once(run)


Work = Callable[[], object]
IsWhole = Callable[[], bool]


def finished_records(root: Path) -> Path:
    """Records that are no smaller when they are compressed."""
    rows = [
        {name: row[name] for name in RECORD_SCHEMA.names} | {"critique": random.Random(number).randbytes(400).hex()}
        for number, row in enumerate(tiny_records(NUM_ROWS))
    ]
    root.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=RECORD_SCHEMA), root / "0.parquet")
    write_manifest(root, "test", [root / "0.parquet"], {"rows": NUM_ROWS})
    return root


def selecting(disk: Disk, elsewhere: Path) -> tuple[Work, IsWhole]:
    records, selected = finished_records(elsewhere / "records"), disk.root / "selected"

    def is_whole() -> bool:
        return read_manifest(selected) is not None and read_parts(selected).num_rows == NUM_ROWS

    return lambda: select_records(SelectionConfig(), records, selected, lambda count: None), is_whole


def packing(disk: Disk, elsewhere: Path) -> tuple[Work, IsWhole]:
    examples, packed = elsewhere / "examples", disk.root / "packed"
    write_examples(random_examples(NUM_ROWS), examples, "test")

    def is_whole() -> bool:
        manifest = read_manifest(packed)
        return manifest is not None and manifest["examples"] == NUM_ROWS

    return lambda: pack(64, examples, packed), is_whole


def saving(disk: Disk, elsewhere: Path) -> tuple[Work, IsWhole]:
    saver = Saver(disk.root / "checkpoints", "mine", "attempt", 0, 1, 2, disk.root / "validation.jsonl")

    def save() -> None:
        saver.start(
            {Range("weight", 0, "a"): torch.arange(100_000.0)}, {"step": 3, "validation_loss": None, "is_answered": False, "consumed": None}
        )
        saver.finish()

    def is_whole() -> bool:
        found = newest(disk.root / "checkpoints", "mine")
        return found is not None and Shards(found.directory).read("weight", "a", 99_998, 2).tolist() == [99_998.0, 99_999.0]

    return save, is_whole


def writing_json(disk: Disk, elsewhere: Path) -> tuple[Work, IsWhole]:
    file, content = disk.root / "report.json", {"text": "x" * 200_000}
    return lambda: write_json(file, content), lambda: read_json(file) == content


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("prepare", [selecting, packing, saving, writing_json])
def test_what_cannot_be_written_whole_is_not_there_and_is_made_by_the_same_call(
    prepare: Callable[[Disk, Path], tuple[Work, IsWhole]], fault: str, disk: Disk, tmp_path: Path
) -> None:
    spoil, mend, line = FAULTS[fault]
    work, is_whole = prepare(disk, tmp_path)
    spoil(disk)
    assert re.fullmatch(line, told(work, disk.root))
    assert not is_whole()
    mend(disk)
    work()
    assert is_whole()


def test_a_purchase_that_does_not_fit_is_not_counted_and_spoils_no_other(disk: Disk) -> None:
    def purchase(key: str, length: int) -> Purchase:
        return Purchase(key=key, prompt_tokens=1, cached_tokens=0, tokens=1, text="x" * length, finish_reason="stop")

    ledger = Journal(disk.root / "spending")
    ledger.add(purchase("small", 10))
    disk.fill(2 * PAGE_BYTES)
    assert re.fullmatch(FULL, told(lambda: ledger.add(purchase("large", 10 * PAGE_BYTES)), disk.root))
    disk.make_room()
    ledger.add(purchase("next", 10))
    assert (spent(disk.root / "spending").answers, ledger.bought("large")) == (2, None)
    assert ledger.bought("next") == purchase("next", 10)


def make_job(disk: Disk, elsewhere: Path) -> list[str]:
    """A command that selects finished records on the disk."""
    (elsewhere / "problems.jsonl").write_text(json.dumps({"question": "What is 1 + 1?"}))
    role = {"model": str(tiny_model(elsewhere / "model")), "context_length": 512}
    tree = {"run_dir": str(disk.root / "run"), "problems": {"path": str(elsewhere / "problems.jsonl")}, "student": role, "teacher": role}
    (elsewhere / "config.yaml").write_text(yaml.safe_dump({**tree, "records": str(finished_records(elsewhere / "records"))}))
    return [sys.executable, "-m", "cgd_ray.cli", "generate", str(elsewhere / "config.yaml")]


@pytest.mark.slow  # it starts the command three times
def test_the_command_line_says_one_line_and_the_same_command_goes_on(disk: Disk, tmp_path: Path) -> None:
    command = make_job(disk, tmp_path)
    disk.fill(16 * PAGE_BYTES)  # enough for what a run begins with
    failed = subprocess.run(command, capture_output=True, text=True)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
    assert re.fullmatch(f"cgd: {FULL}\n", failed.stderr)
    assert read_manifest(disk.root / "run" / "selected") is None
    disk.make_room()
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert read_parts(disk.root / "run" / "selected").num_rows == NUM_ROWS


def test_a_run_directory_on_a_full_disk_is_refused(disk: Disk, tmp_path: Path) -> None:
    command = make_job(disk, tmp_path)
    disk.fill()
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == f"cgd: run_dir {disk.root / 'run'} is not writable (No space left on device); choose another run_dir\n"
    assert not list(disk.root.rglob(".probe*"))
