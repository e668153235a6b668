"""Records are read when this code can understand them, and refused in one line that names both sides where it cannot."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.data.durable import ALWAYS_THERE, BEGUN, IDS, PENDING_SUFFIX, durable_records, parts_of, record_parts
from cgd_ray.data.records import RECORD_SCHEMA, RECORDS_VERSION
from cgd_ray.data.rundir import RunDir, write_json, write_manifest
from tests.builders import tiny_records


def write(directory: Path, schema: pa.Schema = RECORD_SCHEMA, **details: Any) -> Path:
    """Finished records with this schema."""
    directory.mkdir()
    rows = [{name: row.get(name) for name in schema.names} for row in tiny_records(2)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), directory / "part.parquet")
    write_manifest(directory, "made so", [directory / "part.parquet"], details)
    return directory


def test_records_with_and_without_direct_answers_are_read(tmp_path: Path) -> None:
    fewer = pa.schema([RECORD_SCHEMA.field(name) for name in ALWAYS_THERE])
    assert len(fewer) < len(RECORD_SCHEMA)
    for name, schema in (("all", RECORD_SCHEMA), ("fewer", fewer)):
        directory = write(tmp_path / name, schema, version=RECORDS_VERSION)
        assert record_parts(directory) == [directory / "part.parquet"]


def test_records_of_another_version_are_refused_with_both_versions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"records of version 7, this cgd_ray reads and writes version 1; generate them again"):
        record_parts(write(tmp_path / "records", version=7))


def test_other_columns_are_refused_with_the_first_that_differs(tmp_path: Path) -> None:
    lacking = pa.schema([field for field in RECORD_SCHEMA if field.name not in {"critique", "verdict"}])
    with pytest.raises(ValueError, match=r"not what cgd_ray writes: critique is missing, not string and 1 more; give RUN_DIR/records"):
        record_parts(write(tmp_path / "lacking", lacking))
    place = RECORD_SCHEMA.get_field_index("attempt_seed")
    other = RECORD_SCHEMA.set(place, pa.field("attempt_seed", pa.string()))
    with pytest.raises(ValueError, match=r": attempt_seed is string, not int\d+; give"):
        record_parts(write(tmp_path / "other", other))


def unfinished(run: RunDir, version: int = RECORDS_VERSION) -> Path:
    """A generation with a part that is committed and one that is not."""
    ids = run.generation_state / IDS
    for directory in (run.records, ids):
        directory.mkdir(parents=True)
    table = pa.Table.from_pylist([{name: row.get(name) for name in RECORD_SCHEMA.names} for row in tiny_records(2)], schema=RECORD_SCHEMA)
    for name, suffix in (("first", ".parquet"), ("second", PENDING_SUFFIX)):
        pq.write_table(table, run.records / f"{name}-0.parquet")
        pq.write_table(table.select(["record_id"]), ids / f"{name}{suffix}")
    write_json(run.generation_state / BEGUN, {"fingerprint": "made so", "version": version})
    return run.records


def test_of_an_unfinished_generation_the_committed_parts_are_read(tmp_path: Path) -> None:
    records = unfinished(RunDir(tmp_path / "one"))
    made = durable_records(records)
    assert (made.fingerprint, made.parts, made.num_rows) == ("made so", [records / "first-0.parquet"], 2)
    with pytest.raises(ValueError, match=r"holds no finished records \(no manifest\.json\)"):
        record_parts(records)
    with pytest.raises(ValueError, match="records of version 7, this cgd_ray reads and writes version 1"):
        durable_records(unfinished(RunDir(tmp_path / "other"), version=7))


def test_all_parts_of_a_finished_generation_are_durable(tmp_path: Path) -> None:
    directory = write(tmp_path / "records", version=RECORDS_VERSION)
    assert durable_records(directory).parts == record_parts(directory)


def test_a_directory_without_a_generation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no records \(neither manifest\.json nor .*\); give RUN_DIR/records of a generation"):
        durable_records(tmp_path / "nowhere" / "records")


def test_a_commit_has_the_parts_that_begin_with_its_name_whatever_stands_between_them(tmp_path: Path) -> None:
    names = ["a-0", "a-1", "ab-0", "b-0", "c_000001-0", "c_000002-0"]
    for name in names:
        (tmp_path / f"{name}.parquet").touch()
    commits = [Path(f"ids/{name}.parquet") for name in ("c_000002", "a-", "missing", "b")]
    assert [part.name.removesuffix(".parquet") for part in parts_of(commits, tmp_path)] == ["c_000002-0", "a-0", "a-1", "b-0"]


def test_the_records_are_listed_once_for_all_commits(tmp_path: Path) -> None:
    class Listed(type(tmp_path)):  # type: ignore[misc]
        listings = 0

        def glob(self, pattern: str) -> Any:
            Listed.listings += 1
            return super().glob(pattern)

    commits = [Path(f"ids/{number:04}.parquet") for number in range(100)]
    for ids in commits:
        (tmp_path / f"{ids.stem}-0.parquet").touch()
    assert len(parts_of(commits, Listed(tmp_path))) == 100
    assert Listed.listings == 1
