"""Leaks are counted whatever the policy, and drop a record only when asked to; so do benchmarks for the records of another run."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config, DecontaminationConfig, SelectionConfig, SourceConfig
from cgd_ray.data.records import PROBLEM_SCHEMA, RECORD_SCHEMA, SELECTED_SCHEMA, TURNS
from cgd_ray.data.rundir import RunDir, read_manifest, write_manifest
from cgd_ray.problems.decontamination import Benchmarks
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.reporting.summary import closing_rows, summarise
from cgd_ray.selection.leakage import LEAKS
from cgd_ray.selection.selection import drop_reason, select_records
from tests.builders import read_parts, tiny_records

TOLD, COPIED, MENTIONED = LEAKS
ATTEMPT = "Let us see. It is \\boxed{5}."
KINDS: dict[str, dict[str, Any]] = {
    "clean": {},
    "told": {"critique": "It is 4."},
    "copied": {"refinement": ATTEMPT},
    "mentioned": {"refinement": "The student forgot one. So \\boxed{4}."},
    "told and mentioned": {"critique": "It is 4.", "refinement": "As the critique says, \\boxed{4}."},
    "told and truncated": {"critique": "It is 4.", "refinement_finish_reason": "length"},
    "told and failed": {"critique": "It is 4.", "refinement": None, "error": "refinement: refused"},
}
FOUND = [[], [TOLD], [COPIED], [MENTIONED], [TOLD, MENTIONED], [TOLD], None]


def write_records(directory: Path) -> Path:
    sound = {
        "question": "How many legs has a cow?",
        "reference_answer": "4",
        "attempt": ATTEMPT,
        "critique": "Count.",
        "refinement": "\\boxed{4}",
    }
    rows = [{**row, **sound, **columns} for columns in KINDS.values() for row in tiny_records(1)]
    directory.mkdir()
    part = directory / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{name: row[name] for name in RECORD_SCHEMA.names} for row in rows], schema=RECORD_SCHEMA), part)
    nothing = dict.fromkeys(("prompt_tokens", "cached_tokens", "tokens"), 0)
    cost = {"tokens": dict.fromkeys(TURNS, nothing), "reused": {}, "engine_seconds": {}}
    write_manifest(directory, "made so", [part], {"rows": len(rows), **cost})
    return directory


def select(tmp_path: Path, benchmarks: Benchmarks | None = None, **policy: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config = SelectionConfig(grading_timeout_s=20.0, **policy)
    counts = select_records(config, write_records(tmp_path / "records"), tmp_path / "selected", lambda count: None, benchmarks)
    selected = read_parts(tmp_path / "selected")
    assert selected.schema == SELECTED_SCHEMA
    rows = selected.to_pylist()
    assert counts["written"] == counts["kept"] + sum(counts["dropped"].values()) + counts["failed"]
    assert Counter(row["drop_reason"] for row in rows) == Counter({None: counts["kept"], "failed": counts["failed"], **counts["dropped"]})
    return counts, rows


def test_the_setting_knows_the_leaks_that_there_are() -> None:
    (names, _) = get_args(SelectionConfig.model_fields["drop_leaks"].annotation)
    assert get_args(names) == tuple(LEAKS)


def test_leaks_are_counted_and_kept_by_default(tmp_path: Path) -> None:
    counts, rows = select(tmp_path)
    assert [row["leaks"] for row in rows] == FOUND
    assert counts["leakage"] == {TOLD: 3, COPIED: 1, MENTIONED: 2}
    assert (counts["kept"], counts["dropped"]) == (5, {"refinement_truncated": 1})
    manifest = read_manifest(tmp_path / "selected")
    assert manifest is not None
    assert manifest["leakage"] == counts["leakage"]


@pytest.mark.parametrize(
    ("drop_leaks", "dropped"),
    [
        ([TOLD], {TOLD: 2}),
        ([COPIED], {COPIED: 1}),
        ([MENTIONED], {MENTIONED: 2}),
        ([MENTIONED, TOLD], {MENTIONED: 2, TOLD: 1}),
        (list(LEAKS), {TOLD: 2, COPIED: 1, MENTIONED: 1}),
    ],
)
def test_the_leaks_that_are_asked_for_are_dropped_under_their_names(drop_leaks: list[str], dropped: dict[str, int], tmp_path: Path) -> None:
    counts, _ = select(tmp_path, drop_leaks=drop_leaks)
    assert counts["dropped"] == {"refinement_truncated": 1, **dropped}
    assert counts["leakage"] == {TOLD: 3, COPIED: 1, MENTIONED: 2}


def test_a_leak_is_a_reason_only_for_what_the_rest_of_the_policy_keeps() -> None:
    row = tiny_records(1, leaks=[TOLD], refinement_correct=False)[0]
    assert drop_reason(row, SelectionConfig.model_validate({"keep": "verified", "drop_leaks": [TOLD]})) == "not_verified"
    assert drop_reason(row, SelectionConfig.model_validate({"drop_leaks": [TOLD]})) == TOLD
    assert drop_reason(row, SelectionConfig.model_validate({"drop_leaks": [COPIED]})) is None


def test_records_of_contaminated_problems_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": "How many legs has a cow?"}))
    benchmarks = Benchmarks(DecontaminationConfig(against=(SourceConfig(path=str(tmp_path / "b.jsonl")),)))
    counts, _ = select(tmp_path, benchmarks)
    assert (counts["kept"], counts["failed"], counts["dropped"]) == (0, 1, {"contaminated": 5, "refinement_truncated": 1})


def test_the_summary_tells_the_leaks(tmp_path: Path) -> None:
    select(tmp_path)
    run, model = RunDir(tmp_path), {"model": "m"}
    problem = {"problem_id": "p", "question": "How many legs has a cow?"}
    write_work_list(make_work_list(pa.Table.from_pylist([problem], schema=PROBLEM_SCHEMA), 1), run.work_list)
    config = Config.model_validate({"run_dir": str(tmp_path), "problems": {"path": "p"}, "student": model, "teacher": model})
    summary = summarise(config, run)
    assert summary["leakage"] == {TOLD: 3, COPIED: 1, MENTIONED: 2}
    text = f"3 {TOLD}, 1 {COPIED}, 2 {MENTIONED}"
    assert {"stage": "leakage", "result": text} in closing_rows(summary)
