"""The payload tells what the run's files say: counts are over all records, texts are those of a fair sample, and nothing is made up."""

import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.data.records import RECORD_SCHEMA
from cgd_ray.data.rundir import RunDir, write_json, write_manifest
from cgd_ray.reporting.page import records as page_records
from cgd_ray.reporting.page.compared import compared
from cgd_ray.reporting.page.page import as_json
from cgd_ray.reporting.page.payload import build_payload, stamp
from cgd_ray.reporting.page.reading import TEXT_CHARACTERS
from cgd_ray.reporting.page.training import MOST_POINTS
from tests.unit.reporting.page.made_run import MadeRun


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """A finished run of 300 records."""
    run = MadeRun(tmp_path_factory.mktemp("made") / "run", num_records=300)
    run.finish()
    return run


@pytest.fixture(scope="module")
def payload(made: MadeRun) -> dict[str, Any]:
    return build_payload(made.directory)


def data_of(payload: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = payload["runs"][0]["data"]
    return data


def outcome(row: dict[str, Any]) -> str:
    """By the words of the records' own documentation."""
    if row["error"] is not None:
        return "failed"
    words = {True: "right", False: "wrong"}
    return str(row["drop_reason"] or f"{words[row['attempt_correct']]}_to_{words[row['refinement_correct']]}")


def test_a_directory_in_which_nothing_is_made_yet_has_an_empty_page(tmp_path: Path) -> None:
    payload = build_payload(RunDir(tmp_path))
    assert data_of(payload)["funnel"] == data_of(payload)["records"] == payload["evaluation"] == payload["answers"] == []
    assert payload["runs"][0]["training"] is None
    assert payload["comparison"] is None
    json.loads(as_json(payload))


def test_each_stage_of_the_funnel_is_the_one_before_it_without_what_was_lost(payload: dict[str, Any]) -> None:
    stages = data_of(payload)["funnel"]
    assert stages[0]["name"] == "problems read"
    for before, after in pairwise(stages):
        assert after["count"] == before["count"] - sum(after["lost"].values())


def test_repair_verdicts_and_leaks_are_counted_over_all_records(made: MadeRun, payload: dict[str, Any]) -> None:
    data, judged = data_of(payload), [row for row in made.rows if row["refinement_correct"] is not None]
    words = {True: "right", False: "wrong"}
    repair = Counter(f"{words[row['attempt_correct']]}_to_{words[row['refinement_correct']]}" for row in judged)
    assert data["repair"] == dict(repair)
    assert data["verdicts"] == dict(Counter(row["verdict"] for row in judged))
    assert data["empty_critiques"] == sum(row["critique_is_empty"] for row in judged)
    assert data["judged"] == dict(Counter(f"{row['verdict']}_{words[row['attempt_correct']]}" for row in judged))
    assert data["leaks"] == dict(Counter(leak for row in judged for leak in row["leaks"]))
    assert data["num_audited"] == len(judged)


def test_a_histogram_holds_every_length(made: MadeRun, payload: dict[str, Any]) -> None:
    lengths = data_of(payload)["lengths"]
    attempts = [row["attempt_tokens"] for row in made.rows]
    (found,) = [turn for turn in lengths["turns"] if turn["turn"] == "attempt"]
    bins = list(pairwise(lengths["edges"]))
    assert found["counts"] == [sum(low <= tokens < high for tokens in attempts) for low, high in bins]
    assert sum(found["counts"]) == len(attempts)


def test_records_come_with_their_own_texts_in_their_order(made: MadeRun, payload: dict[str, Any]) -> None:
    shown = data_of(payload)["records"]
    assert [(item["record_id"], item["attempt"], item["outcome"]) for item in shown] == [
        (row["record_id"], row["attempt"], outcome(row)) for row in made.rows
    ]


def test_a_sample_has_some_of_every_outcome_and_of_every_kind_of_failure(made: MadeRun) -> None:
    rare = made.record(1000, drop_reason="contaminated")
    failed = [made.record(number, error=f"refinement: stalled for {number} s", drop_reason=None) for number in (2000, 2001)]
    run = MadeRun(made.directory.root.parent / "sampled", num_records=300)
    directory = run.finish([rare, *failed])
    data = data_of(build_payload(directory, most_records=60))
    by_id = {row["record_id"]: row for row in [*run.rows, rare, *failed]}
    assert data["num_records"] == 303
    assert len(data["records"]) == 60
    assert {item["outcome"] for item in data["records"]} == {outcome(row) for row in by_id.values()}
    assert any("stalled" in item.get("error", "") for item in data["records"])
    assert all(item["critique"] == by_id[item["record_id"]]["critique"] for item in data["records"] if "critique" in item)


def test_longer_texts_leave_room_for_fewer_records(made: MadeRun) -> None:
    found = page_records.scan(made.directory)
    assert page_records.num_sampled(found, 5000) == 300
    assert 1 <= page_records.num_sampled(found, 5000, most_bytes=20_000) < 150


def test_a_long_text_is_cut_and_its_length_is_told(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_records=3)
    run.selected([run.record(9, critique="a" * (TEXT_CHARACTERS + 5))])
    *others, item = data_of(build_payload(run.directory))["records"]
    assert len(item["critique"]) == TEXT_CHARACTERS
    assert item["cut"] == {"critique": TEXT_CHARACTERS + 5}
    assert not any("cut" in other for other in others)


def test_records_that_are_not_selected_yet_are_shown_as_they_are(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_records=5)
    part = run.directory.records / "part.parquet"
    run.directory.records.mkdir()
    rows = [{name: row.get(name) for name in RECORD_SCHEMA.names} for row in run.rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=RECORD_SCHEMA), part)
    write_manifest(run.directory.records, "f", [part], {})
    data = data_of(build_payload(run.directory))
    assert len(data["records"]) == 5
    assert data["repair"] is None
    assert data["funnel"][-1]["name"] == "records generated"


def test_losses_that_are_no_numbers_are_gaps(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.trained(num_steps=5, loss=float("nan"))
    training = build_payload(run.directory)["runs"][0]["training"]
    assert training["loss"] == [None] * 5
    assert None not in training["grad_norm"]


def test_a_long_training_is_shown_by_ranges_of_steps(tmp_path: Path) -> None:
    num_steps = 2 * MOST_POINTS + 2
    run = MadeRun(tmp_path)
    run.trained(num_steps)
    lines = [json.loads(line) for line in run.directory.metrics.read_text(encoding="utf-8").splitlines()]
    training = build_payload(run.directory)["runs"][0]["training"]
    assert training["steps_per_point"] == 3
    assert len(training["step"]) == len(training["loss"]) == 668
    assert training["step"][0] == 3
    assert training["step"][-1] == num_steps
    assert training["loss"][0] == pytest.approx(sum(line["train/loss"] for line in lines[:3]) / 3)
    assert max(training["grad_norm"]) == max(line["train/grad_norm"] for line in lines)


def test_gains_of_tokens_are_beside_the_records_that_have_them(payload: dict[str, Any]) -> None:
    gained = [item for item in data_of(payload)["records"] if "token_gains" in item]
    assert 0 < len(gained) <= 10
    assert all("".join(token for token, _ in item["token_gains"]) == item["refinement"] for item in gained)


def test_the_stamp_changes_with_the_files_and_not_without(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    before = stamp(run.directory)
    assert stamp(run.directory) == before
    run.trained()
    after = stamp(run.directory)
    assert after != before
    os.utime(run.directory.metrics, ns=(1, 1))
    assert stamp(run.directory) != after


def test_runs_that_share_records_by_a_link_show_them_once(made: MadeRun, tmp_path: Path) -> None:
    cell = tmp_path / "cell"
    for name in ("selected", "evaluation/base"):
        (cell / name).parent.mkdir(parents=True, exist_ok=True)
        (cell / name).symlink_to(made.directory.root / name)
    MadeRun(tmp_path / "other", num_records=3).evaluated({"trained": 0.9})
    (cell / "evaluation" / "trained").symlink_to(tmp_path / "other" / "evaluation" / "trained")
    payload = build_payload(made.directory, RunDir(cell))
    assert [run["label"] for run in payload["runs"]] == ["run", "cell"]
    assert [run["data"] is None for run in payload["runs"]] == [False, True]
    assert {score["model"] for score in payload["evaluation"]} == {"base", "run trained", "cell trained"}
    assert payload["answers"][0]["models"][0] == "base"


def test_the_differences_between_models_are_those_of_the_file(made: MadeRun, tmp_path: Path) -> None:
    write_json(tmp_path / "given.json", {"rows": [{"name": "trained against base", "difference": 0.3, "interval": [0.2, 0.4], "p": 0.01}]})
    found = build_payload(made.directory, comparison=tmp_path / "given.json")["comparison"]
    (row,) = found["differences"]
    assert (row["difference"], row["interval"], row["p"], row["p_holm"]) == (0.3, [0.2, 0.4], 0.01, None)
    assert found["arms"] == found["costs"] == []
    with pytest.raises(ValueError, match=r"none\.json"):
        build_payload(made.directory, comparison=tmp_path / "none.json")


def test_an_arm_has_its_accuracy_and_its_difference_each_with_its_own_interval() -> None:
    cost = {"target_tokens": 100, "cost": None}
    reference = {"name": "cgd", "benchmark": "amc23", "accuracy": 0.6, "interval": [0.5, 0.7], "difference": None, **cost}
    other = {
        **reference,
        "name": "sft",
        "accuracy": 0.4,
        "difference": -0.2,
        "difference_interval": [-0.3, -0.1],
        "p": 0.01,
        "p_holm": 0.02,
    }
    found = compared({"rows": [reference, other, {**other, "benchmark": "gsm8k"}], "sentence": "Less."})
    assert [(arm["name"], arm["interval"]) for arm in found["arms"]] == [("cgd", [0.5, 0.7]), ("sft", [0.5, 0.7]), ("sft", [0.5, 0.7])]
    assert [(row["name"], row["interval"]) for row in found["differences"]] == [("sft", [-0.3, -0.1])] * 2
    assert [(row["name"], row["target_tokens"]) for row in found["costs"]] == [("cgd", 100), ("sft", 100)]
    assert found["sentence"] == "Less."


def test_models_disagree_where_they_do_not_get_the_same_share_right(made: MadeRun, payload: dict[str, Any]) -> None:
    shares: dict[str, dict[str, list[bool]]] = {}
    for model in ("base", "trained"):
        rows = pq.read_table(made.directory.evaluation(model) / "amc23" / "graded.parquet").to_pylist()
        shares[model] = {
            row["problem_id"]: [other["correct"] for other in rows if other["problem_id"] == row["problem_id"]] for row in rows
        }
    different = [problem for problem in shares["base"] if sum(shares["base"][problem]) != sum(shares["trained"][problem])]
    (found,) = [item for item in payload["answers"] if item["benchmark"] == "amc23"]
    assert [problem["problem_id"] for problem in found["problems"]] == sorted(different)
    assert found["num_different"] == len(different)
    (transition,) = found["transitions"]
    assert transition["better"] == sum(sum(shares["trained"][name]) > sum(shares["base"][name]) for name in different)
    assert transition["better"] + transition["worse"] + transition["alike"] == found["num_common"] == 30
    for problem in found["problems"]:
        for model, answers in problem["answers"].items():
            assert answers["right"] == sum(shares[model][problem["problem_id"]])
            kinds = [sample["correct"] for sample in answers["samples"]]
            assert sorted(kinds) == sorted(set(shares[model][problem["problem_id"]]))
