"""The teacher's numbers against counting by hand, the selection's own counts, and the estimator of single problems."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgd_ray.data.records import SELECTED_SCHEMA
from cgd_ray.evaluation.diagnostics.verdicts import pass_at_ks, repair_matrix, teacher_report, verdict_quality, within_tries
from cgd_ray.evaluation.statistics.rates import mean_pass_at_k
from cgd_ray.selection.selection import Counts
from tests.builders import tiny_records, write_selected

TRUTH = st.sampled_from([True, False, None])
ROWS = st.lists(st.tuples(st.sampled_from(["right", "wrong", None]), TRUTH, TRUTH), max_size=40)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SELECTED_SCHEMA)


def records_of(columns: list[tuple[str | None, bool | None, bool | None]]) -> pa.Table:
    names = ("verdict", "attempt_correct", "refinement_correct")
    return table_of([{**row, **dict(zip(names, values, strict=True))} for row, values in zip(tiny_records(40), columns, strict=False)])


@settings(max_examples=40)
@given(ROWS)
def test_precision_and_recall_are_of_the_verdict_wrong(columns: list[tuple[str | None, bool | None, bool | None]]) -> None:
    found = verdict_quality(records_of(columns))
    known = [(verdict, attempt) for verdict, attempt, _ in columns if attempt is not None]
    said, wrong = [attempt for verdict, attempt in known if verdict == "wrong"], [verdict for verdict, attempt in known if not attempt]
    assert found["precision"] == (said.count(False) / len(said) if said else None)
    assert found["recall"] == (wrong.count("wrong") / len(wrong) if wrong else None)
    judged = [(verdict == "right") == attempt for verdict, attempt in known if verdict is not None]
    assert found["accuracy"] == (sum(judged) / len(judged) if judged else None)
    assert sum(sum(counts.values()) for counts in found["counts"].values()) + found["without_reference"] == len(columns)


@settings(max_examples=40)
@given(ROWS)
def test_the_repair_matrix_is_the_selections(columns: list[tuple[str | None, bool | None, bool | None]]) -> None:
    records, counts = records_of(columns), Counts()
    counts.add(records)
    assert repair_matrix(records) == dict(counts.repair)


def test_tries_that_were_needed_tell_pass_at_k() -> None:
    rows = [
        {**row, "num_refinements": tries, "refinement_correct": correct}
        for row, (tries, correct) in zip(tiny_records(4), [(1, True), (3, True), (3, False), (2, True)], strict=True)
    ]
    assert within_tries(table_of(rows)) == {"1": 0.25, "2": 0.5, "3": 0.75}
    assert within_tries(table_of(tiny_records(3))) is None


def test_pass_at_k_is_that_of_each_problem_in_the_mean() -> None:
    random = np.random.default_rng(0)
    samples = [random.random(size) < 0.4 for size in (4, 4, 4, 2, 1)]
    names = pa.array([f"problem-{number}" for number, one in enumerate(samples) for _ in one])
    order = random.permutation(len(names))
    found = pass_at_ks(names.take(pa.array(order)), np.concatenate(samples)[order])
    assert found is not None
    for k, num_problems in ((1, 5), (2, 4), (4, 3)):
        enough = [list(one) for one in samples if len(one) >= k]
        assert found[str(k)] == {"value": pytest.approx(mean_pass_at_k(enough, k)), "problems": num_problems}
    assert list(found) == ["1", "2", "4"]


def test_a_report_has_what_the_records_tell(tmp_path: Path) -> None:
    rows = tiny_records(6)
    rows[0] |= {"verdict": "right", "refinement": None, "refinement_correct": None}
    rows[1] |= {"verdict": None}
    rows[2] |= {"error": "critique: no answer"}
    rows[3] |= {"direct": "It is \\boxed{1000}."}
    parts = [write_selected(tmp_path / "selected", rows) / "selected.parquet"]
    report = teacher_report(parts, max_problems=10, seed=0, grading_timeout_s=5.0)
    assert (report["records"], report["critiques"]) == (6, 5)
    assert report["verdicts"]["counts"]["wrong"] == {"right": 1, "wrong": 3, "missing": 1}
    assert report["verdicts"]["recall"] == 0.6
    assert report["verdicts"]["precision"] == 1.0
    assert report["repair"]["all"]["wrong_to_right"] == 4
    assert report["repair"]["wrong"]["wrong_to_right"] == 3
    assert report["teacher"]["refinement"] == {"1": {"value": 1.0, "problems": 4}}
    assert report["teacher"]["direct"] == {"1": {"value": pytest.approx(5 / 6), "problems": 6}}
    assert report["teacher"]["within_tries"] is None


def test_without_direct_answers_nothing_is_graded(tmp_path: Path) -> None:
    rows = tiny_records(3, direct=None, direct_finish_reason=None)
    parts = [write_selected(tmp_path / "selected", rows) / "selected.parquet"]
    assert teacher_report(parts, max_problems=2, seed=0, grading_timeout_s=5.0)["teacher"]["direct"] is None


def test_direct_answers_of_a_sample_of_the_problems_are_graded(tmp_path: Path) -> None:
    parts = [write_selected(tmp_path / "selected", tiny_records(9)) / "selected.parquet"]
    direct = teacher_report(parts, max_problems=4, seed=0, grading_timeout_s=5.0)["teacher"]["direct"]
    assert direct == {"1": {"value": 1.0, "problems": 4}}
