"""A run reads its problems before it begins; what it has begun with is all that its later stages need, wherever the source has gone."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config
from cgd_ray.data.records import RECORD_SCHEMA, RECORDS_VERSION
from cgd_ray.data.rundir import RunDir, write_manifest
from cgd_ray.problems.work_list import write_work_list
from cgd_ray.runs.work_lists import make_work_lists


class Job:
    """A config with training problems, held-out ones and a benchmark, each in a file that can be changed or removed."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.problems, self.held_out, self.benchmark = (root / f"{name}.jsonl" for name in ("problems", "held_out", "benchmark"))
        self.write(self.problems, "one", "two", "three")
        self.write(self.held_out, "four")
        self.write(self.benchmark, "three")
        fields = {"fields": {"reference_answer": "answer"}}
        tree = {
            "run_dir": str(root / "run"),
            "problems": {"path": str(self.problems), "decontaminate": {"against": [{"path": str(self.benchmark)}]}, **fields},
            "student": {"model": "m"},
            "teacher": {"model": "m"},
            "evaluation": {"problems": {"path": str(self.held_out), **fields}},
        }
        self.config = Config.model_validate({**tree, **settings})
        self.run = RunDir(root / "run")

    def write(self, file: Path, *questions: str) -> None:
        file.write_text("".join(json.dumps({"question": question, "answer": "1"}) + "\n" for question in questions))

    def lists(self, command: str, notes: list[str] | None = None) -> tuple[dict[Path, pa.Table], dict[str, Any] | None]:
        return make_work_lists(command, self.config, self.run, [] if notes is None else notes)

    def begin(self) -> None:
        for path, work in self.lists("generate")[0].items():
            write_work_list(work, path)

    def remove_sources(self) -> None:
        for file in (self.problems, self.held_out, self.benchmark):
            file.unlink()


def questions(work: pa.Table) -> list[str]:
    found: list[str] = work["question"].to_pylist()
    return found


def test_a_run_begins_with_the_problems_that_no_benchmark_asks(tmp_path: Path) -> None:
    job = Job(tmp_path)
    lists, report = job.lists("run")
    assert {path: questions(work) for path, work in lists.items()} == {
        job.run.work_list: ["one", "two"],
        job.run.evaluation_work_list("problems"): ["four"],
    }
    assert report is not None
    assert report["removed"] == 1


@pytest.mark.parametrize("command", ["run", "generate", "train", "evaluate"])
def test_a_source_that_is_not_there_when_a_run_begins_is_refused(command: str, tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.problems.unlink()
    with pytest.raises(ValueError, match=r"^problems.path .*problems.jsonl does not exist"):
        job.lists(command)


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize("change", ["gone", "others"])
def test_later_commands_go_on_from_the_work_lists_without_reading_a_source(command: str, change: str, tmp_path: Path) -> None:
    job, notes = Job(tmp_path), list[str]()
    job.begin()
    before = job.lists("generate")[0]
    if change == "gone":
        job.remove_sources()
    else:
        job.write(job.problems, "five")
    lists, report = job.lists(command, notes)
    assert lists.keys() == before.keys()
    assert all(lists[path].equals(before[path]) for path in lists)
    assert report is None
    assert notes == []


@pytest.mark.parametrize("command", ["run", "generate"])
def test_a_source_that_has_gone_since_a_run_began_is_told_and_one_that_has_changed_refused(command: str, tmp_path: Path) -> None:
    job, notes = Job(tmp_path), list[str]()
    job.begin()
    job.write(job.problems, "one", "two", "five")
    with pytest.raises(ValueError, match=r"^the problems differ from those in .*work_list.parquet, which this run began with"):
        job.lists(command)
    job.remove_sources()
    assert questions(job.lists(command, notes)[0][job.run.work_list]) == ["one", "two"]
    assert [note.partition(";")[0] for note in notes] == [
        f"problems.path {job.problems} does not exist",
        f"evaluation.problems.path {job.held_out} does not exist",
    ]
    assert notes[0].endswith(f"; the run goes on with the problems that it began with, {job.run.work_list}")


def test_each_benchmark_has_a_work_list_of_its_own_and_one_that_is_added_leaves_the_others(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.begin()
    job.run.claim(job.config)
    job.held_out.unlink()
    evaluation = job.config.model_dump()["evaluation"] | {"benchmarks": ["tinymath"]}
    job.config = Config.model_validate(job.config.model_dump() | {"evaluation": evaluation})
    lists = job.lists("evaluate", notes := list[str]())[0]
    assert questions(lists[job.run.evaluation_work_list("problems")]) == ["four"]
    assert lists[job.run.evaluation_work_list("tinymath")].num_rows == 400
    assert notes == []


@pytest.mark.parametrize(
    ("evaluation", "refusal"),
    [
        ({"benchmarks": ["tinymaths"]}, "evaluation.benchmarks has 'tinymaths', which is no benchmark; did you mean tinymath"),
        ({"benchmarks": ["tinymath"], "grader": "boxed"}, "^evaluation.grader: unknown grader 'boxed'; did you mean boxed-math"),
        ({"benchmarks": [{"name": "tinymath", "grader": "x"}]}, "^evaluation.benchmarks.tinymath.grader: unknown grader 'x'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_generated(evaluation: dict[str, Any], refusal: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=refusal):
        Job(tmp_path, evaluation=evaluation).lists("generate")


def test_given_records_hold_their_problems_when_the_source_has_gone(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    rows = [
        {"problem_id": "b", "question": "two", "reference_answer": "1", "error": "attempt: took too long", "sample_index": 0},
        {"problem_id": "a", "question": "one", "reference_answer": "1", "error": "problem: half a pair", "sample_index": 0},
        {"problem_id": "b", "question": "two", "reference_answer": "1", "sample_index": 1},
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=RECORD_SCHEMA), records / "part.parquet")
    write_manifest(records, "made so", [records / "part.parquet"], {"version": RECORDS_VERSION})
    job, notes = Job(tmp_path, records=str(records)), list[str]()
    assert questions(job.lists("run")[0][job.run.work_list]) == ["one", "two"]  # while the source is there
    job.problems.unlink()
    work = job.lists("run", notes)[0][job.run.work_list]
    assert [(row["problem_id"], row["question"], row["error"]) for row in work.to_pylist()] == [
        ("a", "one", "problem: half a pair"),
        ("b", "two", None),
    ]
    assert notes == [
        f"problems.path {job.problems} does not exist; give a file that does; the problems are taken from the records in {records}"
    ]
