"""What is left to do is the work list without the committed ids; two collections of ids are told apart in whatever order they come."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.data.durable import PENDING_SUFFIX
from cgd_ray.data.reasons import FailureLimit
from cgd_ray.data.records import RECORD_SCHEMA, WORK_SCHEMA
from cgd_ray.generation.dataflow import ID_COLUMN, ROWS_AT_ONCE, Dataflow, counted
from cgd_ray.problems.work_list import write_work_list


def make_work(ids: list[str]) -> pa.Table:
    rest = {"sample_index": 0, "reference_answer": None, "reference_solution": None, "error": None}
    return pa.Table.from_pylist([{"record_id": name, "problem_id": name, "question": name, **rest} for name in ids], schema=WORK_SCHEMA)


def write_part(path: Path, ids: list[str], **columns: object) -> Path:
    pq.write_table(pa.Table.from_pylist([{**row, **columns} for row in make_work(ids).to_pylist()], schema=RECORD_SCHEMA), path)
    return path


def test_rows_that_are_committed_are_left_out_and_pending_ones_are_not(tmp_path: Path) -> None:
    flow = Dataflow(work_list=tmp_path / "work.parquet", output=tmp_path / "out", state=tmp_path / "state", batch_size=1, rows_per_file=1)
    pq.write_table(make_work(list("abcdefg")), flow.work_list, row_group_size=2)
    flow.checkpoint.mkdir(parents=True)
    pq.write_table(pa.table({ID_COLUMN: ["b", "e"]}), flow.checkpoint / "0.parquet")
    pq.write_table(pa.table({ID_COLUMN: ["c"]}), flow.checkpoint / f"1{PENDING_SUFFIX}")
    assert flow.num_finished() == 2
    (file,) = flow._write_remaining(tmp_path / "remaining")
    assert pq.read_table(file).equals(make_work(list("acdfg")))


def test_turns_that_are_durably_written_are_counted_and_rows_that_were_given_up_early(tmp_path: Path) -> None:
    flow = Dataflow(work_list=tmp_path / "work.parquet", output=tmp_path / "out", state=tmp_path / "state", batch_size=1, rows_per_file=1)
    for directory in (flow.output, flow.checkpoint):
        directory.mkdir(parents=True)
    cut, whole = {"attempt_finish_reason": "length"}, {"attempt_finish_reason": "stop", "critique_finish_reason": "stop"}
    for name, columns in {"a": cut, "b": whole, "c": {**cut, "error": "critique: refused"}, "d": {"error": "attempt: refused"}}.items():
        pq.write_table(pa.table({ID_COLUMN: [name]}), flow.checkpoint / f"{name}.parquet")
        write_part(flow.output / f"{name}-0.parquet", [name], **columns)
    write_part(flow.output / "e-0.parquet", ["e"], **cut)  # not committed
    written = flow.written(["attempt", "critique"])
    assert (written.rows, written.made, written.unusable) == (4, {"attempt": 3, "critique": 1}, 1)
    assert written.errors.total() == flow.written([]).errors.total() == 2


def test_a_long_work_list_is_cut_into_files_of_the_same_size(tmp_path: Path) -> None:
    flow = Dataflow(work_list=tmp_path / "work.parquet", output=tmp_path / "out", state=tmp_path / "state", batch_size=1, rows_per_file=1)
    ids = [f"{number:06}" for number in range(2 * ROWS_AT_ONCE + 1)]
    write_work_list(make_work(ids), flow.work_list)
    files = flow._write_remaining(tmp_path / "remaining")
    assert [pq.read_metadata(file).num_rows for file in files] == [5462, 5462, 5461]
    assert sorted(pa.concat_tables(map(pq.read_table, files))[ID_COLUMN].to_pylist()) == ids


def test_a_part_that_was_being_written_again_after_its_commit_is_made_anew(tmp_path: Path) -> None:
    flow = Dataflow(work_list=tmp_path / "work.parquet", output=tmp_path / "out", state=tmp_path / "state", batch_size=1, rows_per_file=1)
    for directory in (flow.output, flow.checkpoint):
        directory.mkdir(parents=True)
    for name in ("0", "1"):
        pq.write_table(pa.table({ID_COLUMN: [name]}), flow.checkpoint / f"{name}.parquet")
        write_part(flow.output / f"{name}-0.parquet", [name])
    pq.write_table(pa.table({ID_COLUMN: ["1"]}), flow.checkpoint / f"1{PENDING_SUFFIX}")
    (flow.output / "1-0.parquet").write_bytes(b"half")
    flow.drop_uncommitted()
    assert flow.finished_ids().to_pylist() == ["0"]
    assert [path.name for path in flow.output.iterdir()] == ["0-0.parquet"]


def test_failures_that_differ_in_their_numbers_are_counted_together_and_told_by_one_of_them(tmp_path: Path) -> None:
    pq.write_table(make_work(list("abcd")), tmp_path / "work.parquet")
    refused, no_room = "attempt: refused", "attempt: prompt of {} tokens leaves no room in context_length 1,024; raise it"
    errors = {"a": refused, "b": no_room.format("1,234"), "c": no_room.format("2,000"), "d": no_room.format("31,555")}
    parts = [write_part(tmp_path / f"{name}.parquet", [name], error=error) for name, error in errors.items()]
    counts = counted(parts, tmp_path / "work.parquet", [])
    assert list(counts["errors"].items()) == [(no_room.format("1,234"), 3), (refused, 1)]
    with pytest.raises(ValueError, match=r"Most often \(3 times, numbers aside\): attempt: prompt of 1,234 tokens leaves no room in"):
        FailureLimit(fraction=0.5, records=tmp_path).check(counts["rows"], counts["failed"], counts["errors"])


def test_a_lost_row_and_a_doubled_one_do_not_make_up_for_each_other(tmp_path: Path) -> None:
    pq.write_table(make_work(list("abc")), tmp_path / "work.parquet", row_group_size=2)
    parts = [
        write_part(tmp_path / "0.parquet", ["c"], error="attempt: x"),
        write_part(tmp_path / "1.parquet", ["b", "a"], attempt_tokens=3),
    ]
    counts = counted(parts, tmp_path / "work.parquet", ["attempt"])
    assert counts == {
        "rows": 3,
        "failed": 1,
        "errors": {"attempt: x": 1},
        "tokens": {"attempt": {"prompt_tokens": 0, "cached_tokens": 0, "tokens": 6}},
    }
    write_part(parts[1], ["b", "b"])
    with pytest.raises(ValueError, match="holds 3 rows with 2 distinct ids, the work list 3"):
        counted(parts, tmp_path / "work.parquet", ["attempt"])
