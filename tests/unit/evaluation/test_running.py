"""While a model answers, its bar says how it does so far; no answer is graded twice for it, and the estimate is of what is there."""

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.data.durable import IDS
from cgd_ray.data.prompts import Prompts
from cgd_ray.evaluation.papers import Paper
from cgd_ray.evaluation.running import Grades, _Estimate, estimating
from cgd_ray.evaluation.sitting import ANSWERS_SCHEMA, Sitting
from cgd_ray.grading.exact import Exact
from cgd_ray.grading.grader import Grader
from cgd_ray.grading.verdict import Answer, Verdict
from tests.exams import answered, exam_of, next_sitting, paper_of

WORDS = {f"The word for {n}?": f"word {n}" for n in range(8)}


class Counting(Grader):
    """A grader that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(5.0, 1, Exact())
        self.given: list[str | None] = []

    def verdicts(self, answers: Sequence[Answer]) -> list[Verdict]:
        self.given += [answer.text for answer in answers]
        return super().verdicts(answers)


def begun(tmp_path: Path) -> tuple[Paper, Sitting, list[dict[str, Any]]]:
    """A sitting of which nothing is answered yet, and the rows that it asks."""
    paper = paper_of(tmp_path, "words", WORDS, grader="exact")
    sitting = next_sitting(exam_of([paper]), tmp_path / "m")
    assert sitting is not None
    sitting.output.mkdir(parents=True)
    (sitting.output.with_name("answers_state") / IDS).mkdir(parents=True)
    return paper, sitting, paper.asked(Prompts()).to_pylist()


def commit(sitting: Sitting, rows: Sequence[dict[str, Any]], num_right: int) -> None:
    """Write a part and its ids as Ray's writer does; the first rows are right."""
    made = [answered(row, lambda row: {"attempt": row["reference_answer"]}) for row in rows]
    for row in made[num_right:]:
        row["attempt"] = "else"
    name = f"{rows[0]['record_id']}.parquet"
    pq.write_table(pa.Table.from_pylist(made, schema=ANSWERS_SCHEMA), sitting.output / name)
    pq.write_table(pa.table({"record_id": [row["record_id"] for row in rows]}), sitting.output.with_name("answers_state") / IDS / name)


def test_rows_are_graded_once_as_they_are_written(tmp_path: Path) -> None:
    paper, sitting, rows = begun(tmp_path)
    with (grader := Counting()):
        grades = Grades({"exact": grader})
        estimate, go_on = _Estimate(sitting, Prompts(), grades), threading.Event()
        estimate.look(go_on)
        assert estimate.text == ""
        commit(sitting, rows[:3], num_right=3)
        estimate.look(go_on)
        commit(sitting, rows[3:6], num_right=0)
        estimate.look(go_on)
        estimate.look(go_on)
        assert re.fullmatch(r"words 50\.0% so far \(\d+\.\d% to \d+\.\d%\)", estimate.text)
        assert len(grader.given) == 6
        texts = [row["reference_answer"] for row in rows[:3]] + ["else"] * 5
        verdicts = grades.verdicts(paper, range(8), texts)
        assert [verdict.correct for verdict in verdicts] == [True] * 3 + [False] * 5
        assert len(grader.given) == 8, "two were new"
        grades.verdicts(paper, [0], ["another text for the same row"])
        assert grader.given[-1] == "another text for the same row"
        grades.forget(paper)
        grades.verdicts(paper, [0], ["another text for the same row"])
        assert len(grader.given) == 10


def test_a_finished_paper_has_no_estimate_any_more(tmp_path: Path) -> None:
    _, sitting, rows = begun(tmp_path)
    with (grader := Counting()):
        estimate = _Estimate(sitting, Prompts(), Grades({"exact": grader}))
        commit(sitting, rows, num_right=5)
        estimate.look(threading.Event())
        assert estimate.text == ""


def test_the_estimate_follows_by_itself_and_nobody_grades_where_nobody_looks(tmp_path: Path) -> None:
    _, sitting, rows = begun(tmp_path)
    commit(sitting, rows[:4], num_right=1)
    with (grader := Counting()):
        grades = Grades({"exact": grader})
        with estimating(sitting, Prompts(), grades, only_if=False) as estimate:
            assert estimate() == ""
        with estimating(sitting, Prompts(), grades, only_if=True) as estimate:
            while not estimate():
                time.sleep(0.05)
            assert estimate().startswith("words 25.0% so far")
        assert len(grader.given) == 4
