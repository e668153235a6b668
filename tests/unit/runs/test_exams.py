"""An evaluation that is there already, as one that was taken over, is read and not shown as work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.process.console import Screen
from cgd_ray.runs.exams import answer_exam
from tests.exams import answer, exam_of, paper_of


def right(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"attempt": f"\\boxed{{{row['reference_answer']}}}"}


def test_a_finished_exam_has_no_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exam = exam_of([paper_of(tmp_path, "sums", {"What is 1 + 1?": "2"})])
    answer(exam, tmp_path / "base", right)
    made = exam(tmp_path / "base")
    (tmp_path / "cell").symlink_to(tmp_path / "base")
    with Screen(tmp_path / "driver.log") as screen:
        assert answer_exam(exam, "base", tmp_path / "cell", screen) == made
    assert capfd.readouterr().out == ""
