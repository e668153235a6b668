"""Columns are taken from other runs exactly when the row and the fingerprint are the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.data.records import RECORD_SCHEMA, TURNS, WORK_SCHEMA, Turn, make_record_id
from cgd_ray.data.rundir import write_manifest
from cgd_ray.generation.reuse import take_over

NOW: dict[Turn, str] = {"attempt": "a1", "critique": "c1", "refinement": "r1"}


def row(number: int, question: str | None = None, **columns: Any) -> dict[str, Any]:
    base = dict.fromkeys(RECORD_SCHEMA.names)
    ids = {"record_id": make_record_id(f"p{number}", 0), "problem_id": f"p{number}", "sample_index": 0}
    return {**base, **ids, "question": question or f"What is {number}?", **columns}


def made(number: int, fingerprints: dict[Turn, str], **columns: Any) -> dict[str, Any]:
    texts: dict[str, Any] = {turn: f"{turn} of {number}" for turn in TURNS}
    named = {f"{turn}_fingerprint": name for turn, name in fingerprints.items()}
    settled: dict[str, Any] = {**texts, **named, "verdict": "wrong", **columns}
    return row(number, **settled)


def finished(directory: Path, rows: list[dict[str, Any]]) -> Path:
    directory.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=RECORD_SCHEMA), directory / "part.parquet")
    write_manifest(directory, "other", [directory / "part.parquet"], {})
    return directory


def run(
    tmp_path: Path, work: list[dict[str, Any]], *sources: Path, finished_rows: Sequence[dict[str, Any]] = (), refines_by_grade: bool = False
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    pq.write_table(pa.Table.from_pylist(work, schema=WORK_SCHEMA), tmp_path / "work.parquet")
    ids = pa.array([done["record_id"] for done in finished_rows], pa.string())
    reused = take_over(tmp_path / "work.parquet", sources, NOW, tmp_path / "prefilled.parquet", ids, refines_by_grade)
    return {turn: counts["rows"] for turn, counts in reused.items()}, pq.read_table(tmp_path / "prefilled.parquet").sort_by(
        "record_id"
    ).to_pylist()


def test_a_new_critique_prompt_keeps_attempts_alone(tmp_path: Path) -> None:
    source = finished(tmp_path / "old", [made(n, {"attempt": "a1", "critique": "c0", "refinement": "r0"}) for n in range(3)])
    counts, rows = run(tmp_path, [row(n) for n in range(4)], source)
    assert counts == {"attempt": 3, "critique": 0, "refinement": 0}
    by_problem = {filled["problem_id"]: filled for filled in rows}
    assert by_problem["p1"]["attempt"] == "attempt of 1"
    assert by_problem["p3"]["attempt"] is None
    assert "critique" not in by_problem["p1"]
    assert "verdict" not in by_problem["p1"]


def test_a_new_student_keeps_nothing(tmp_path: Path) -> None:
    source = finished(tmp_path / "old", [made(1, {"attempt": "a0", "critique": "c0", "refinement": "r0"})])
    counts, rows = run(tmp_path, [row(1)], source)
    assert counts == {"attempt": 0, "critique": 0, "refinement": 0}
    assert set(rows[0]) == set(WORK_SCHEMA.names)


def test_the_same_settings_keep_whole_rows_with_their_verdicts(tmp_path: Path) -> None:
    counts, rows = run(tmp_path, [row(1)], finished(tmp_path / "old", [made(1, NOW)]))
    assert counts == {"attempt": 1, "critique": 1, "refinement": 1}
    assert (rows[0]["refinement"], rows[0]["verdict"]) == ("refinement of 1", "wrong")


def test_another_question_under_the_same_id_is_another_row(tmp_path: Path) -> None:
    counts, _ = run(tmp_path, [row(1, question="Quite another one?")], finished(tmp_path / "old", [made(1, NOW)]))
    assert counts == {"attempt": 0, "critique": 0, "refinement": 0}


def test_a_row_in_two_sources_stays_one_row(tmp_path: Path) -> None:
    sources = [finished(tmp_path / name, [made(1, NOW)]) for name in ("first", "second")]
    counts, rows = run(tmp_path, [row(1), row(2)], *sources)
    assert len(rows) == 2
    assert counts["attempt"] == 1


def test_a_critique_is_taken_only_with_the_attempt_that_it_is_about(tmp_path: Path) -> None:
    """Two runs of the same student, which sampled, with different teachers."""
    first = finished(tmp_path / "first", [made(n, {"attempt": "a1", "critique": "c0", "refinement": "r0"}) for n in range(2)])
    second = finished(tmp_path / "second", [made(0, NOW, attempt="another attempt"), made(1, NOW)])
    counts, rows = run(tmp_path, [row(n) for n in range(2)], first, second)
    assert counts == {"attempt": 2, "critique": 1, "refinement": 1}
    assert [(filled["attempt"], filled["critique"]) for filled in sorted(rows, key=lambda filled: filled["problem_id"])] == [
        ("attempt of 0", None),
        ("attempt of 1", "critique of 1"),
    ]
    counts, _ = run(tmp_path, [row(n) for n in range(2)], second, first)
    assert counts == {"attempt": 2, "critique": 2, "refinement": 2}


def test_an_older_source_with_another_question_hides_no_later_one(tmp_path: Path) -> None:
    older = finished(tmp_path / "older", [{**made(1, NOW), "question": "What was 1?"}])
    counts, _ = run(tmp_path, [row(1)], older, finished(tmp_path / "later", [made(1, NOW)]))
    assert counts == {"attempt": 1, "critique": 1, "refinement": 1}


@pytest.mark.parametrize(("before", "now", "taken"), [("4", "4", 1), ("4", "5", 0), (None, "5", 0), (None, None, 1)])
def test_a_refinement_that_was_repeated_by_its_grade_is_taken_with_the_same_reference_answer(
    before: str | None, now: str | None, taken: int, tmp_path: Path
) -> None:
    source = finished(tmp_path / "old", [made(1, NOW, reference_answer=before)])
    for refines_by_grade in (True, False):
        counts, _ = run(tmp_path, [row(1, reference_answer=now)], source, refines_by_grade=refines_by_grade)
        assert counts == {"attempt": 1, "critique": 1, "refinement": taken if refines_by_grade else 1}


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no records"):
        run(tmp_path, [row(1)], tmp_path / "nowhere")


def test_finished_rows_keep_what_was_found_when_they_were_made(tmp_path: Path) -> None:
    numbers = range(4)
    critiqued: dict[Turn, str] = {"attempt": "a1", "critique": "c1", "refinement": "r0"}
    attempts = finished(tmp_path / "attempts", [made(n, {"attempt": "a1", "critique": "c0"}, attempt_tokens=10) for n in numbers])
    critiques = finished(tmp_path / "critiques", [made(n, critiqued, attempt_tokens=7, critique_tokens=5) for n in numbers])
    work = [row(n) for n in numbers]
    assert run(tmp_path, work, attempts)[0] == {"attempt": 4, "critique": 0, "refinement": 0}
    counts, rows = run(tmp_path, work, critiques, finished_rows=work[:1])
    assert counts == {"attempt": 4, "critique": 3, "refinement": 0}
    assert sum(filled["attempt_tokens"] for filled in rows) == 10 + 3 * 7
    counts, rows = run(tmp_path, work, finished_rows=work[:3])
    assert counts == {"attempt": 3, "critique": 2, "refinement": 0}
    assert len(rows) == 4


def test_rows_finished_before_there_were_sources_were_all_made(tmp_path: Path) -> None:
    work = [row(1), row(2)]
    counts, _ = run(tmp_path, work, finished(tmp_path / "old", [made(1, NOW), made(2, NOW)]), finished_rows=work[:1])
    assert counts == {"attempt": 1, "critique": 1, "refinement": 1}
