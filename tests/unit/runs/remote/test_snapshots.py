"""What is restored is what the run directory was at one moment, or would have been after a kill then; nobody else's is overwritten."""

import json
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.data.durable import committed, parts_of
from cgd_ray.data.rundir import RunDir, write_json, write_manifest
from cgd_ray.runs.remote.leasing import LostError
from cgd_ray.runs.remote.objects import Objects, StoreError
from cgd_ray.runs.remote.scanning import is_unchanged, scan
from cgd_ray.runs.remote.snapshots import CONTENTS, INDEX, Snapshots


def begun(store: Objects, root: Path, number: int = 1) -> Snapshots:
    """Those of a driver that works in `root`."""
    root.mkdir(parents=True, exist_ok=True)
    snapshots = Snapshots(store, root)
    snapshots.restore(number)
    return snapshots


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def fill(root: Path) -> None:
    (root / "model").mkdir(parents=True)
    (root / "model" / "weights").write_bytes(b"w" * 20_000_000)
    (root / "model" / "empty").touch()
    (root / "a file with spaces & ü").write_text("1")
    (root / "metrics.jsonl").write_text("{}\n")


def commit_part(run: RunDir, name: str) -> None:
    """A part, and then its ids, as Ray writes them."""
    (run.generation_state / "ids").mkdir(parents=True, exist_ok=True)
    run.records.mkdir(exist_ok=True)
    pq.write_table(pa.table({"record_id": [name]}), run.records / f"{name}_0.parquet")
    pending = run.generation_state / "ids" / f"{name}.pending.parquet"
    pq.write_table(pa.table({"record_id": [name]}), pending)
    pending.rename(pending.with_name(f"{name}.parquet"))


def test_another_machine_gets_what_was_published(store: Objects, tmp_path: Path) -> None:
    here = begun(store, tmp_path / "here")
    fill(tmp_path / "here")
    assert here.publish()
    there = Snapshots(store, tmp_path / "there")
    assert there.restore(2) == 4
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_what_has_changed_alone_is_brought_and_what_is_gone_goes(store: Objects, tmp_path: Path) -> None:
    root = tmp_path / "here"
    here = begun(store, root)
    fill(root)
    here.publish()
    before = set(store.names(CONTENTS))
    (root / "metrics.jsonl").open("a").write("{}\n")
    (root / "a file with spaces & ü").unlink()
    here.publish()
    after = set(store.names(CONTENTS))
    assert len(after - before) == 1  # the metrics
    assert len(before - after) == 2  # the metrics before, and what is gone
    begun(store, tmp_path / "there", 2)
    assert contents(tmp_path / "there") == contents(root)


def test_a_copy_that_has_come_further_than_the_store_goes_on_from_there(store: Objects, tmp_path: Path) -> None:
    root = tmp_path / "here"
    begun(store, root).publish()
    (root / "later").write_text("made after the last snapshot")
    assert Snapshots(store, root).restore(2) == 0
    assert (root / "later").exists()


def test_a_copy_whose_driver_was_killed_between_publishing_and_noting_it_goes_on_too(store: Objects, tmp_path: Path) -> None:
    root = tmp_path / "here"
    here = begun(store, root)
    (root / "file").write_text("1")
    noted = Path(f"{root}.snapshot.json")

    class KilledError(Exception):
        pass

    def end(*snapshots: str) -> None:
        if len(snapshots) == 1:
            raise KilledError
        write_known(*snapshots)

    write_known, here._write_known = here._write_known, end  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        here.publish()
    assert len(json.loads(noted.read_text())["snapshots"]) == 2
    (root / "later").write_text("1")
    assert Snapshots(store, root).restore(2) == 0
    assert (root / "later").exists()


def test_a_copy_that_another_machine_has_left_behind_becomes_what_that_one_has_published(store: Objects, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    fill(here)
    begun(store, here).publish()
    other = begun(store, there, 2)
    (there / "new").write_text("1")
    (there / "metrics.jsonl").unlink()
    other.publish()
    (here / "stale").write_text("1")
    assert Snapshots(store, here).restore(3) == 1  # the others are there already
    assert contents(here) == contents(there)


def test_one_that_has_lost_the_lease_publishes_nothing(store: Objects, tmp_path: Path) -> None:
    here = begun(store, tmp_path / "here", 1)
    here.publish()
    begun(store, tmp_path / "there", 2)
    (tmp_path / "here" / "file").write_text("1")
    with pytest.raises(LostError):
        here.publish()
    found = store.read(INDEX)
    assert found is not None
    assert json.loads(found[0]) == {"version": 1, "lease": 2, "files": {}}


def test_what_a_killed_driver_has_brought_and_not_published_is_removed(store: Objects, tmp_path: Path) -> None:
    store.upload(f"{CONTENTS}left", [b"1"])
    begun(store, tmp_path / "here")
    assert list(store.names(CONTENTS)) == []


def test_a_changed_object_is_found_out_before_it_is_used(store: Objects, tmp_path: Path) -> None:
    here = begun(store, tmp_path / "here")
    (tmp_path / "here" / "weights").write_bytes(b"true")
    here.publish()
    (name,) = store.names(CONTENTS)
    store.upload(name, [b"fals"])
    with pytest.raises(StoreError, match=r"/contents/\w+ is not what its name says; weights of the run is lost there$"):
        Snapshots(store, tmp_path / "there").restore(2)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside"])
def test_a_file_outside_of_the_run_directory_is_refused(name: str, store: Objects, tmp_path: Path) -> None:
    store.create(INDEX, json.dumps({"version": 1, "lease": 1, "files": {name: ["0" * 64, 1]}}).encode())
    with pytest.raises(ValueError, match="is outside of the run directory"):
        Snapshots(store, tmp_path / "here").restore(1)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 2, "files": {}}', b'{"version": 1, "files": []}', b"\xff"])
def test_an_index_of_somebody_else_is_one_line(content: bytes, store: Objects, tmp_path: Path) -> None:
    store.create(INDEX, content)
    with pytest.raises(ValueError, match=r"^run_dir s3://[^\n]*$"):
        Snapshots(store, tmp_path / "here").restore(1)


def test_parts_that_are_not_committed_and_what_is_this_machines_alone_stay_here(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    commit_part(run, "a")
    (run.records / "b_0.parquet").write_bytes(b"half")
    (run.generation_state / "ids" / "b.pending.parquet").write_bytes(b"half")
    write_json(run.lease / "000001.json", {})
    (tmp_path / ".file.1.tmp").touch()
    assert set(scan(tmp_path)) == {"records/a_0.parquet", "work/generation/ids/a.parquet"}
    write_manifest(run.records, "f", run.records.glob("*.parquet"), {})
    assert "records/b_0.parquet" in scan(tmp_path)


def test_answers_of_an_evaluation_count_once_they_are_committed_too(tmp_path: Path) -> None:
    answers, state = tmp_path / "evaluation" / "base" / "answers", tmp_path / "evaluation" / "base" / "answers_state"
    (state / "ids").mkdir(parents=True)
    answers.mkdir()
    for name in ("a", "b"):
        (answers / f"{name}_0.parquet").write_bytes(b"1")
    (state / "ids" / "a.parquet").write_bytes(b"1")
    assert {name for name in scan(tmp_path) if name.endswith("_0.parquet")} == {"evaluation/base/answers/a_0.parquet"}


def test_a_snapshot_in_which_something_was_committed_or_taken_back_is_none(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    commit_part(run, "a")
    (tmp_path / "seconds.json").write_text("1")
    files = scan(tmp_path)
    commit_part(run, "b")
    (tmp_path / "seconds.json").unlink()
    assert is_unchanged(tmp_path, files)  # what is new has its turn in the next one
    (run.generation_state / "ids" / "a.parquet").unlink()
    assert not is_unchanged(tmp_path, files)


def test_every_snapshot_of_a_generation_under_way_has_each_committed_part(store: Objects, tmp_path: Path) -> None:
    """Whatever is published, a restore finds no ids without their part, and no part without its ids."""
    run, ended = RunDir(tmp_path / "here"), threading.Event()
    here = begun(store, run.root)

    def write() -> None:
        number = 0
        while not ended.is_set():
            commit_part(run, f"{number:06}")
            number += 1
            time.sleep(0.03)

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    try:
        for number in range(3):
            time.sleep(0.1)
            assert here.publish()
            copy = RunDir(tmp_path / f"copy {number}")
            Snapshots(store, copy.root).look()
            commits = committed(copy.generation_state / "ids")
            parts = {path.name for path in copy.records.glob("*.parquet")} if copy.records.exists() else set()
            assert {part.name for part in parts_of(commits, copy.records)} == parts
            assert len(parts) == len(commits) >= seen
            seen = len(commits)
    finally:
        ended.set()
        writer.join()
    assert seen > 0
