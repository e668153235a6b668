"""An exam is answered in one pass and told paper by paper; what is there is not asked again, and never taken for another model's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cgd_ray.data.rundir import manifest_parts, read_json
from cgd_ray.evaluation.evaluate import GRADED_SCHEMA, Exam
from cgd_ray.evaluation.papers import Paper
from cgd_ray.evaluation.report import Report
from tests.exams import answer, exam_of, next_sitting, paper_of

SUMS = {f"What is {n} + 1?": str(n + 1) for n in range(8)}
WORDS = {f"The word for {n}?": f"word {n}" for n in range(5)}


def right(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"attempt": f"\\boxed{{{row['reference_answer']}}}", "attempt_thinking": "hm"}


def right_where(says: str) -> Any:
    """Right where the question says so, else wrong."""
    return lambda row: right(row) if says in row["question"] else {"attempt": "\\boxed{-7}"}


def graded(directory: Path, paper: Paper) -> list[dict[str, Any]]:
    return [dict(row) for row in pq.read_table(directory / paper.name / "graded.parquet").to_pylist()]


def finished(exam: Exam, directory: Path) -> dict[str, Report]:
    """The reports, for which nothing may be asked: there is no engine."""
    assert exam.engine_factory is None
    return exam(directory)


def test_each_paper_gets_its_answers_in_its_own_order_and_words(tmp_path: Path) -> None:
    sums = paper_of(tmp_path, "sums", SUMS)
    words = paper_of(tmp_path, "words", WORDS, wording="follow", grader="exact", source="here")
    exam = exam_of([sums, words])
    asked = answer(exam, tmp_path / "m", right)
    assert len({row["record_id"] for row in asked}) == len(SUMS) + len(WORDS)
    assert {row["question"] for row in asked if row["question"].startswith("The word")} == set(WORDS), "no instruction is added to these"
    assert all("\\boxed{}" in row["question"] for row in asked if "+" in row["question"])
    reports = finished(exam, tmp_path / "m")
    for paper, questions in ((sums, SUMS), (words, WORDS)):
        rows = graded(tmp_path / "m", paper)
        assert {row["question"]: row["reference_answer"] for row in rows} == questions
        assert [row["problem_id"] for row in rows] == sorted(row["problem_id"] for row in rows)
        assert all(row["attempt"] == f"\\boxed{{{row['reference_answer']}}}" and row["correct"] for row in rows)
        assert {row["attempt_thinking"] for row in rows} == {"hm"}
        assert pq.read_schema(tmp_path / "m" / paper.name / "graded.parquet").equals(GRADED_SCHEMA)
        assert read_json(tmp_path / "m" / paper.name / "report.json") == reports[paper.name]
        assert pq.read_table(manifest_parts(tmp_path / "m" / paper.name / "answers"))["record_id"].to_pylist() == (
            paper.rows["record_id"].to_pylist()
        )
    assert not list((tmp_path / "m").glob("sitting-*"))
    assert reports["words"]["source"] == "here"
    assert sum(report["seconds"] for report in reports.values()) >= 8.0, "the pass is shared out"


def test_the_same_question_in_two_papers_is_asked_in_both(tmp_path: Path) -> None:
    one, other = (paper_of(tmp_path, name, SUMS) for name in ("one", "other"))
    exam = exam_of([one, other])
    asked = answer(exam, tmp_path / "m", right)
    assert len({row["record_id"] for row in asked}) == 2 * len(SUMS)
    assert [report["avg@k"] for report in finished(exam, tmp_path / "m").values()] == [1.0, 1.0]


def test_what_cannot_be_graded_is_wrong_and_counted(tmp_path: Path) -> None:
    made: dict[str, dict[str, Any]] = {
        "0": {"attempt": "\\boxed{1}"},
        "1": {"attempt": "It is \\boxed{2", "attempt_finish_reason": "length"},
        "2": {"attempt": "three"},
        "3": {"error": "attempt: too long", **dict.fromkeys(("attempt_tokens", "attempt_finish_reason"))},
    }
    exam = exam_of([paper := paper_of(tmp_path, "sums", SUMS)])
    answer(exam, tmp_path / "m", lambda row: made.get(row["question"][8], {"attempt": "\\boxed{0}"}))
    report = finished(exam, tmp_path / "m")["sums"]
    assert (report["avg@k"], report["truncated"], report["unboxed"], report["failed"]) == (1 / 8, 1 / 8, 2 / 8, 1 / 8)
    assert report["interval"][0] < 1 / 8 < report["interval"][1]
    assert sum(report["graded_by"].values()) == len(SUMS)
    rows = {row["question"][8]: row for row in graded(tmp_path / "m", paper)}
    assert [rows[digit]["correct"] for digit in "01234"] == [True, False, False, False, False]
    assert (rows["0"]["extracted"], rows["3"]["error"], rows["3"]["grade_reason"]) == ("1", "attempt: too long", "no answer")


def test_one_pass_tells_strict_and_lenient_accuracy(tmp_path: Path) -> None:
    ways = {"0": "\\boxed{1}", "1": "The answer is 2.", "2": "So it makes 3", "3": "\\boxed{5}", "4": "The answer is 6."}
    papers = [paper_of(tmp_path, name, SUMS, grader=name) for name in ("boxed-math", "boxed-math-strict")]
    exam = exam_of(papers)
    answer(exam, tmp_path / "m", lambda row: {"attempt": ways.get(row["question"][8], "No idea.")})
    reports = finished(exam, tmp_path / "m")
    lenient, strict = reports["boxed-math"], reports["boxed-math-strict"]
    assert (lenient["strict"]["avg@k"], lenient["lenient"]["avg@k"], lenient["avg@k"]) == (1 / 8, 3 / 8, 3 / 8)
    assert lenient["lenient"]["interval"] == lenient["interval"]
    assert strict["strict"] == lenient["strict"] == {"avg@k": strict["avg@k"], "interval": strict["interval"]}
    assert strict["lenient"] is None, "what has no box is not graded there"
    rows = {row["question"][8]: row for row in graded(tmp_path / "m", papers[0])}
    found = [rows[digit]["found_by"] for digit in "012345"]
    assert found == ["box", "phrase", "last number", "box", "phrase", None]
    boxes = [row["correct"] and row["found_by"] == "box" for row in rows.values()]
    assert sum(boxes) / len(boxes) == lenient["strict"]["avg@k"]


def test_several_samples_are_told_by_how_often_each_problem_is_right(tmp_path: Path) -> None:
    paper = paper_of(tmp_path, "sums", SUMS, num_samples=4, k=(1, 2, 4))
    exam = exam_of([paper])
    answer(exam, tmp_path / "m", lambda row: right(row) if row["sample_index"] < int(row["question"][8]) else {"attempt": "\\boxed{-1}"})
    report = finished(exam, tmp_path / "m")["sums"]
    times_right = [0, 1, 2, 3, 4, 4, 4, 4]
    assert (report["num_problems"], report["num_samples"]) == (8, 4)
    assert report["avg@k"] == report["pass@k"]["1"] == sum(times_right) / 32
    assert report["pass@k"]["4"] == 7 / 8
    assert report["pass@k"]["1"] < report["pass@k"]["2"] < report["pass@k"]["4"]
    assert all(low <= report["pass@k"][k] <= high for k, (low, high) in report["pass@k_band"].items())
    assert report["maj@k"] == (0.5 + 5) / 8, "two of four is a tie with one other answer"
    assert report["g_pass@k"]["4@1"] == 4 / 8
    assert report["g_pass@k"]["4@0.5"] == 6 / 8


def test_an_evaluation_that_is_there_is_read_and_one_that_is_graded_otherwise_is_graded_anew(tmp_path: Path) -> None:
    paper = paper_of(tmp_path, "sums", SUMS)
    exam = exam_of([paper])
    assert not exam.is_finished(tmp_path / "m")
    answer(exam, tmp_path / "m", lambda row: {"attempt": f"The answer is {row['reference_answer']}."})
    first = finished(exam, tmp_path / "m")
    before = (tmp_path / "m" / "sums" / "graded.parquet").stat().st_mtime_ns
    assert exam.is_finished(tmp_path / "m")
    assert finished(exam, tmp_path / "m") == first
    assert (tmp_path / "m" / "sums" / "graded.parquet").stat().st_mtime_ns == before
    strict = exam_of([Paper(name="sums", work_list=paper.work_list, grader="boxed-math-strict")])
    assert not strict.is_finished(tmp_path / "m")
    second = finished(strict, tmp_path / "m")
    assert (first["sums"]["avg@k"], second["sums"]["avg@k"]) == (1.0, 0.0)
    assert first["sums"]["fingerprint"] != second["sums"]["fingerprint"]


@pytest.mark.parametrize("other", ["another/model", "words", "problems", "samples"])
def test_answers_of_another_model_or_to_something_else_are_refused_before_anything_is_asked(other: str, tmp_path: Path) -> None:
    exam = exam_of([paper_of(tmp_path, "sums", SUMS)])
    answer(exam, tmp_path / "m", right)
    finished(exam, tmp_path / "m")
    changed = {
        "another/model": lambda: exam_of(exam.papers, model="another/model"),
        "words": lambda: exam_of([paper_of(tmp_path, "sums", SUMS, wording="follow")]),
        "problems": lambda: exam_of([paper_of(tmp_path, "sums", {**SUMS, "What is 9 + 1?": "10"})]),
        "samples": lambda: exam_of([paper_of(tmp_path, "sums", SUMS, num_samples=2)]),
    }[other]()
    for refused in (changed.is_finished, changed):
        with pytest.raises(ValueError, match=r"m/sums/answers was made with another model, prompt or decoding, or for other problems"):
            refused(tmp_path / "m")


def test_a_paper_that_is_added_is_asked_alone(tmp_path: Path) -> None:
    sums, words = paper_of(tmp_path, "sums", SUMS), paper_of(tmp_path, "words", WORDS)
    answer(exam_of([sums]), tmp_path / "m", right)
    finished(exam_of([sums]), tmp_path / "m")
    both = exam_of([sums, words])
    asked = answer(both, tmp_path / "m", right_where("0"))
    assert len(asked) == len(WORDS)
    reports = finished(both, tmp_path / "m")
    assert (reports["sums"]["avg@k"], reports["words"]["avg@k"]) == (1.0, 1 / 5)


def test_what_a_kill_has_left_is_gone_on_with_when_more_is_asked_for_since(tmp_path: Path) -> None:
    sums, words = paper_of(tmp_path, "sums", SUMS), paper_of(tmp_path, "words", WORDS)
    begun = next_sitting(exam_of([sums]), tmp_path / "m")
    assert begun is not None
    begun.directory.mkdir(parents=True)
    (begun.directory / "papers.json").write_text(json.dumps({paper.name: name for paper, name in begun.fingerprints.items()}))
    both = exam_of([sums, words])
    next_one = next_sitting(both, tmp_path / "m")
    assert next_one is not None
    assert (next_one.directory, next_one.fingerprints) == (begun.directory, begun.fingerprints)
    answer(exam_of([sums]), tmp_path / "m", right)
    finished(exam_of([sums]), tmp_path / "m")
    begun.directory.mkdir()
    (begun.directory / "papers.json").write_text(json.dumps({paper.name: name for paper, name in begun.fingerprints.items()}))
    last_one = next_sitting(both, tmp_path / "m")
    assert last_one is not None
    assert set(last_one.fingerprints) == {words}
    assert not begun.directory.exists(), "a kill came between its last answers and its end"


def test_what_is_begun_for_another_model_is_left_alone(tmp_path: Path) -> None:
    sums, words = paper_of(tmp_path, "sums", SUMS), paper_of(tmp_path, "words", WORDS)
    begun = next_sitting(exam_of([sums]), tmp_path / "m")
    assert begun is not None
    begun.directory.mkdir(parents=True)
    (begun.directory / "papers.json").write_text(json.dumps({paper.name: name for paper, name in begun.fingerprints.items()}))
    other = next_sitting(exam_of([sums, words], model="another/model"), tmp_path / "m")
    assert other is not None
    assert other.directory != begun.directory
    assert set(other.fingerprints) == {sums, words}
    assert begun.directory.exists()
