"""The work list holds every (problem, sample) once, is the same every time, and is never replaced by another one."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.data.records import PROBLEM_SCHEMA, WORK_SCHEMA, make_record_id
from cgd_ray.problems.work_list import check_work_list, make_work_list, write_work_list


def make_problems(*ids: str, **columns: str) -> pa.Table:
    row = {"reference_answer": None, "reference_solution": None, "error": None, **columns}
    return pa.Table.from_pylist([{"problem_id": name, "question": f"What is {name}?", **row} for name in ids], schema=PROBLEM_SCHEMA)


def test_every_sample_of_every_problem_is_there_once_side_by_side() -> None:
    problems = make_problems("b", "a", reference_answer="4", error="problem: spoiled")
    work = make_work_list(problems, num_samples=3)
    assert work.schema == WORK_SCHEMA
    pairs = [("b", 0), ("b", 1), ("b", 2), ("a", 0), ("a", 1), ("a", 2)]
    assert list(zip(work["problem_id"].to_pylist(), work["sample_index"].to_pylist(), strict=True)) == pairs
    assert work["record_id"].to_pylist() == [make_record_id(name, sample) for name, sample in pairs]
    assert work.select(problems.column_names).to_pylist() == [row for row in problems.to_pylist() for _ in range(3)]


def test_more_samples_keep_the_ids_of_the_first() -> None:
    fewer, more = (set(make_work_list(make_problems("a", "b"), count)["record_id"].to_pylist()) for count in (2, 5))
    assert fewer < more
    assert len(more) == 10


def test_a_written_work_list_stays_as_it_is(tmp_path: Path) -> None:
    path, work = tmp_path / "work" / "list.parquet", make_work_list(make_problems("a", "b"), 2)
    check_work_list(work, path)
    assert not path.exists()
    write_work_list(work, path)
    assert pq.read_table(path).equals(work)
    written = path.stat()
    write_work_list(work, path)
    assert path.stat() == written


@pytest.mark.parametrize(
    "other",
    [
        make_work_list(make_problems("a"), 2),
        make_work_list(make_problems("b", "a"), 2),
        make_work_list(make_problems("a", "b"), 1),
        make_work_list(make_problems("a", "b", reference_answer="4"), 2),
    ],
    ids=["a problem less", "another order", "fewer samples", "other answers"],
)
def test_other_problems_than_a_run_began_with_are_refused_and_not_written(other: pa.Table, tmp_path: Path) -> None:
    path, work = tmp_path / "list.parquet", make_work_list(make_problems("a", "b"), 2)
    write_work_list(work, path)
    for refused in (check_work_list, write_work_list):
        with pytest.raises(ValueError, match=f"the problems differ from those in {path}, .*; choose another run_dir"):
            refused(other, path)
    assert pq.read_table(path).equals(work)
