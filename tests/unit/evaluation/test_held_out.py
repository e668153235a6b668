"""What a checkpoint's student is worth: one number, the box being part of the answer."""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cgd_ray.config import RoleConfig
from cgd_ray.data.prompts import Prompts
from cgd_ray.evaluation.held_out import GRADER, NAME, HeldOutExam
from tests.exams import answer, exam_of, paper_of

SUMS = {f"What is {n} + 1?": str(n + 1) for n in range(8)}


def half_boxed(row: Mapping[str, Any]) -> dict[str, Any]:
    answer = row["reference_answer"]
    return {"attempt": f"\\boxed{{{answer}}}" if int(answer) % 2 else f"The answer is {answer}."}


def test_an_answer_outside_of_a_box_is_wrong(tmp_path: Path) -> None:
    paper = paper_of(tmp_path, NAME, SUMS, grader=GRADER)
    examine = HeldOutExam(
        student=RoleConfig.model_validate({"model": "nobody/anything"}), prompts=Prompts(), work_list=paper.work_list, grading_timeout_s=5
    )
    answer(replace(exam_of([paper]), role=examine.student.model_copy(update={"model": "nobody/nothing"})), tmp_path / "m", half_boxed)
    line = pickle.loads(pickle.dumps(examine))("nobody/nothing", tmp_path / "m")  # noqa: S301
    low, high = line["pass@1_interval"]
    assert 0 < low < line["pass@1"] == 0.5 < high < 1
    assert (line["num_problems"], line["unboxed"], line["truncated"], line["failed"]) == (8, 0.5, 0.0, 0.0)
    assert line["model"] == "nobody/nothing"
