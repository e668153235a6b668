"""Only sound records reach training, every other one has one counted reason, and the counts add up to what was written."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import SelectionConfig
from cgd_ray.data.records import RECORD_SCHEMA, SELECTED_SCHEMA
from cgd_ray.data.rundir import manifest_parts, read_manifest, write_manifest
from cgd_ray.process.spreading import in_turn, spread
from cgd_ray.selection.selection import Selecting, drop_reason, select_records
from tests.builders import read_parts, tiny_records

RIGHT, WRONG = "So \\boxed{4}.", "So \\boxed{5}."
NOTHING_MORE = {"critique": None, "critique_finish_reason": None, "refinement": None, "refinement_finish_reason": None, "verdict": None}
KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "wrong to right": (5, {"attempt": WRONG, "refinement": RIGHT}),
    "right to right": (4, {"attempt": RIGHT, "refinement": RIGHT, "verdict": "right"}),
    "right to wrong": (3, {"attempt": RIGHT, "critique": "Conclusion: wrong", "refinement": WRONG}),
    "wrong to wrong": (2, {"attempt": "I do not know.", "refinement": WRONG, "verdict": None}),
    "no reference": (2, {"attempt": WRONG, "refinement": RIGHT, "reference_answer": None}),
    "attempt truncated": (1, {"attempt": "So", "attempt_finish_reason": "length", **NOTHING_MORE}),
    "critique truncated": (2, {"attempt": WRONG, "critique_finish_reason": "length", "refinement": RIGHT, "verdict": None}),
    "refinement truncated": (3, {"attempt": WRONG, "refinement": RIGHT, "refinement_finish_reason": "length"}),
    "attempt empty": (1, {"attempt": "", "refinement": RIGHT}),
    "critique empty": (1, {"attempt": RIGHT, "critique": " \n", "refinement": RIGHT, "verdict": None}),
    "refinement empty": (2, {"attempt": WRONG, "refinement": "\n"}),
    "engine failed": (2, {"attempt": WRONG, "critique": None, "refinement": None, "verdict": None, "error": "critique: refused"}),
    "surrogate": (1, {"attempt": None, "critique": None, "refinement": None, "verdict": None, "error": "problem: surrogate"}),
}
UNSOUND = {
    "attempt_truncated": 1,
    "critique_truncated": 2,
    "refinement_truncated": 3,
    "attempt_empty": 1,
    "critique_empty": 1,
    "refinement_empty": 2,
}


def write_records(directory: Path) -> list[dict[str, Any]]:
    """Finished records of all kinds in two parts; returns them in their order."""
    rows = [{**row, "reference_answer": "4", **columns} for count, columns in KINDS.values() for row in tiny_records(count)]
    rows = [{**row, "record_id": f"record-{index}"} for index, row in enumerate(rows)]
    directory.mkdir()
    parts = [directory / "a.parquet", directory / "b.parquet"]
    for part, half in zip(parts, (rows[:11], rows[11:]), strict=True):
        pq.write_table(
            pa.Table.from_pylist([{name: row[name] for name in RECORD_SCHEMA.names} for row in half], schema=RECORD_SCHEMA), part
        )
    write_manifest(directory, "made so", parts, {"rows": len(rows)})
    return rows


@pytest.mark.parametrize(
    ("keep", "policy"),
    [("all", {}), ("repaired", {"not_repaired": 4 + 3 + 2 + 2})],
)
def test_every_record_is_kept_or_has_one_counted_reason(keep: Literal["all", "repaired"], policy: dict[str, int], tmp_path: Path) -> None:
    rows = write_records(tmp_path / "records")
    progress: list[int] = []
    config = SelectionConfig(keep=keep, grading_timeout_s=20.0)
    counts = select_records(config, tmp_path / "records", tmp_path / "selected", progress.append)
    selected = read_parts(tmp_path / "selected")
    assert selected.schema == SELECTED_SCHEMA
    assert selected["record_id"].to_pylist() == [row["record_id"] for row in rows]
    assert counts["dropped"] == {**UNSOUND, **policy}
    assert (counts["written"], counts["failed"], sum(progress)) == (len(rows), 3, len(rows))
    assert counts["written"] == counts["kept"] + sum(counts["dropped"].values()) + counts["failed"]
    reasons = Counter(selected["drop_reason"].to_pylist())
    assert reasons == {None: counts["kept"], "failed": counts["failed"], **counts["dropped"]}
    assert counts["errors"] == {"critique: refused": 2, "problem: surrogate": 1}
    manifest = read_manifest(tmp_path / "selected")
    assert manifest is not None
    assert manifest["fingerprint"] == "made so"
    assert counts.items() <= manifest.items()
    assert_is_graded(selected.to_pylist(), counts)


def assert_is_graded(rows: list[dict[str, Any]], counts: dict[str, Any]) -> None:
    """Of the rows that did not fail and were not given up early, verdicts are those of all, the repair matrix of those graded twice."""
    assert {name for row in rows if row["refinement"] is None for name in (row["leaks"] or ())} == set()
    sound = [row for row in rows if row["error"] is None and row["refinement"] is not None]
    assert sum(counts["verdicts"].values()) == len(sound)
    assert counts["verdicts"] == {"right": 4, "missing": 2 + 2 + 1, "wrong": len(sound) - 4 - 5}
    names = {True: "right", False: "wrong"}
    graded = [(row["attempt_correct"], row["refinement_correct"]) for row in sound if row["reference_answer"] is not None]
    assert counts["repair"] == Counter(f"{names[before]}_to_{names[after]}" for before, after in graded)
    assert sum(counts["repair"].values()) == len(graded) == len(sound) - 2
    assert counts["repair"]["right_to_wrong"] == counts["empty_critiques"] - 1 == 3, "and one that is blank"
    assert Counter(row["critique_is_empty"] for row in sound)[True] == counts["empty_critiques"]
    assert {row["attempt_correct"] for row in rows if row["reference_answer"] is None} == {None}


GRADES = [(before, after) for before in (True, False, None) for after in (True, False, None)]


@pytest.mark.parametrize(("before", "after"), GRADES)
def test_the_policies_keep_what_they_say(before: bool | None, after: bool | None) -> None:
    row = tiny_records(1, attempt_correct=before, refinement_correct=after)[0]
    assert drop_reason(row, SelectionConfig()) is None
    assert (drop_reason(row, SelectionConfig(keep="verified")) is None) == (after is True)
    assert (drop_reason(row, SelectionConfig(keep="repaired")) is None) == (before is False and after is True)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"error": "refinement: refused", "attempt_finish_reason": "length"}, "failed"),
        ({"attempt_finish_reason": "length", "critique": "", "refinement_finish_reason": "length"}, "attempt_truncated"),
        ({"attempt": "", "attempt_finish_reason": "length"}, "attempt_truncated"),
        ({"critique": None, "refinement_finish_reason": "length", "refinement_correct": False}, "critique_empty"),
        ({"refinement": "", "refinement_correct": False}, "refinement_empty"),
    ],
)
def test_the_first_reason_in_the_order_of_the_stages_counts(columns: dict[str, Any], reason: str) -> None:
    assert drop_reason(tiny_records(1, **columns)[0], SelectionConfig(keep="verified", cut_attempts="drop")) == reason


CUT = {"attempt_finish_reason": "length"}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, None),
        ({"attempt": ""}, "attempt_truncated"),  # all that there is of it is a thought
        (NOTHING_MORE, "attempt_truncated"),  # as a run that drops them leaves it
        ({"critique": "", "refinement": None, "refinement_finish_reason": None}, "critique_empty"),
        ({"critique_finish_reason": "length"}, "critique_truncated"),
        ({"refinement_finish_reason": "length"}, "refinement_truncated"),
        ({"critique_finish_reason": "repetition"}, "critique_repetitive"),
        ({"refinement_finish_reason": "repetition"}, "refinement_repetitive"),
        ({"error": "critique: refused", **NOTHING_MORE}, "failed"),
    ],
)
def test_a_cut_attempt_is_used_unless_it_says_nothing_or_was_left_alone(columns: dict[str, Any], reason: str | None) -> None:
    row = tiny_records(1, **CUT | columns)[0]
    assert drop_reason(row, SelectionConfig()) == reason
    dropped = SelectionConfig(cut_attempts="drop")
    assert drop_reason(row, dropped) == ("failed" if reason == "failed" else "attempt_truncated")


def test_an_attempt_that_repeats_itself_is_used_as_one_that_was_cut() -> None:
    (row,) = tiny_records(1, attempt_finish_reason="repetition")
    assert drop_reason(row, SelectionConfig()) is None
    assert drop_reason(row, SelectionConfig(cut_attempts="drop")) == "attempt_repetitive"


def test_records_with_a_cut_attempt_are_counted_among_those_that_are_kept(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    rows = [{**row, **(CUT if number % 2 else {})} for number, row in enumerate(tiny_records(5))]
    part = tmp_path / "records" / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{name: row[name] for name in RECORD_SCHEMA.names} for row in rows], schema=RECORD_SCHEMA), part)
    write_manifest(tmp_path / "records", "made so", [part], {"rows": 5})
    for policy, expected in (("use", (5, 2)), ("drop", (3, 0))):
        config = SelectionConfig(cut_attempts=policy)  # type: ignore[arg-type]
        counts = select_records(config, tmp_path / "records", tmp_path / policy, lambda count: None)
        assert (counts["kept"], counts["kept_with_cut_attempt"]) == expected


def test_a_directory_without_records_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no records"):
        select_records(SelectionConfig(), tmp_path / "records", tmp_path / "selected", lambda count: None)
    assert list(tmp_path.rglob("*.parquet*")) == []


def test_all_cpus_together_select_what_one_process_does(tmp_path: Path, ray_local: None) -> None:
    write_records(tmp_path / "records")
    groups = [[tmp_path / "records" / name] for name in ("a.parquet", "b.parquet")]

    def written(name: str) -> list[Path]:
        return [tmp_path / name / group[0].name for group in groups]

    config = SelectionConfig(grading_timeout_s=20.0)
    here, everywhere = (
        [counts.as_dict() for counts in work(Selecting, (config, None, groups, written(name), 1), len(groups))]
        for name, work in (("here", in_turn), ("everywhere", spread))
    )
    assert [counts["written"] for counts in here] == [11, 18]
    assert everywhere == here
    for one, other in zip(written("here"), written("everywhere"), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_small_parts_are_selected_together_and_their_order_stays(tmp_path: Path) -> None:
    rows = write_records(tmp_path / "records")
    select_records(SelectionConfig(grading_timeout_s=20.0), tmp_path / "records", tmp_path / "selected", lambda count: None)
    (part,) = manifest_parts(tmp_path / "selected")
    assert pq.read_table(part)["record_id"].to_pylist() == [row["record_id"] for row in rows]
