"""Rows that failed are taken out, others stay, each is there once, whatever is killed meanwhile; what is trained on already stays."""

import multiprocessing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config
from cgd_ray.data.durable import BEGUN, durable_records
from cgd_ray.data.records import RECORD_SCHEMA, RECORDS_VERSION, WORK_SCHEMA
from cgd_ray.data.rundir import RunDir, read_json, read_manifest, write_json, write_manifest
from cgd_ray.generation.dataflow import Dataflow
from cgd_ray.generation.failed_rows import give_another_try, has_failed_rows, take_out, with_reused_before
from tests.chaos.dying import die_at

ERRORS = {"a": None, "b": "attempt: refused", "c": None, "d": "attempt: refused", "e": "problem: spoiled", "f": "critique: refused"}
PARTS = ["ab", "cd", "ef"]
SOUND = ["a", "c", "e"]
"""The rows that stay, among them the one that the source has spoiled."""
REUSED = {"attempt": {"rows": 1, "prompt_tokens": 2, "cached_tokens": 0, "tokens": 3}}
SEEDED_STEPS = {4, 17, 28}
"""Of the durable steps, those before which a kill is tried by default."""


def row(name: str, **columns: Any) -> dict[str, Any]:
    return {**dict.fromkeys(RECORD_SCHEMA.names), "record_id": name, "problem_id": name, "question": name, "sample_index": 0, **columns}


def make_run(root: Path, is_finished: bool) -> tuple[RunDir, Dataflow]:
    """A generation of six rows in three parts."""
    run = RunDir(root)
    flow = Dataflow(work_list=run.work_list, output=run.records, state=run.generation_state, batch_size=1, rows_per_file=1)
    for directory in (flow.output, flow.checkpoint):
        directory.mkdir(parents=True)
    spoiled = {name: error for name, error in ERRORS.items() if error is not None and error.startswith("problem")}
    work = [{name: row(record, error=spoiled.get(record))[name] for name in WORK_SCHEMA.names} for record in ERRORS]
    pq.write_table(pa.Table.from_pylist(work, schema=WORK_SCHEMA), run.work_list)
    parts = [flow.output / f"part_{number:06}-0.parquet" for number in range(len(PARTS))]
    for part, names in zip(parts, PARTS, strict=True):
        pq.write_table(pa.Table.from_pylist([row(name, error=ERRORS[name]) for name in names], schema=RECORD_SCHEMA), part)
        if not is_finished:
            pq.write_table(pa.table({"record_id": list(names)}), flow.checkpoint / f"{part.stem.removesuffix('-0')}.parquet")
    if is_finished:
        details = {"version": RECORDS_VERSION, "rows": 6, "failed": 4, "engine_seconds": {"student": 1.5}, "reused": REUSED}
        write_manifest(run.records, "made so", parts, details)
        for made in (run.selected, run.examples, run.packed):
            write_manifest(made, "made so", [], {})
    else:
        write_json(run.generation_state / BEGUN, {"fingerprint": "made so", "version": RECORDS_VERSION})
    return run, flow


def make_config(root: Path, **settings: Any) -> Config:
    roles = {"student": {"model": "s"}, "teacher": {"model": "t"}}
    return Config.model_validate({"run_dir": str(root), "problems": {"path": "p"}, **roles, **settings})


def assert_the_sound_rows_are_left(run: RunDir, flow: Dataflow) -> None:
    assert sorted(flow.finished_ids().to_pylist()) == SOUND
    records = durable_records(run.records)
    assert records.fingerprint == "made so"
    assert sorted(name for part in records.parts for name in pq.read_table(part)["record_id"].to_pylist()) == SOUND


@pytest.mark.parametrize("is_finished", [False, True])
def test_failed_rows_are_taken_out_and_the_others_stay(is_finished: bool, tmp_path: Path) -> None:
    run, flow = make_run(tmp_path, is_finished)
    assert has_failed_rows(make_config(tmp_path), run)
    give_another_try(run, flow)
    take_out(flow)
    assert_the_sound_rows_are_left(run, flow)
    give_another_try(run, flow)  # there is none left
    take_out(flow)
    assert_the_sound_rows_are_left(run, flow)


def test_a_finished_generation_becomes_an_unfinished_one_with_what_it_has_cost(tmp_path: Path) -> None:
    run, flow = make_run(tmp_path, is_finished=True)
    give_another_try(run, flow)
    assert [read_manifest(made) for made in (run.records, run.selected, run.examples, run.packed)] == [None] * 4
    assert read_json(run.generation_state / "ledger.json") == {"student_engine_ms": 1500}
    assert with_reused_before({}, run.generation_state) == REUSED
    assert with_reused_before({"attempt": {"rows": 1}}, run.generation_state)["attempt"] == {**REUSED["attempt"], "rows": 2}


def test_rows_that_engines_died_of_are_let_in_again(tmp_path: Path) -> None:
    run, flow = make_run(tmp_path, is_finished=False)
    deaths = flow.state / "in_flight" / "deaths.txt"
    deaths.parent.mkdir()
    deaths.write_text("b\n" * 3)
    give_another_try(run, flow)
    take_out(flow)
    assert not deaths.exists()


def take_out_and_die(run: RunDir, flow: Dataflow, step: int) -> None:
    die_at(["fsync", "replace", "unlink", "table"], step, "before")
    give_another_try(run, flow)
    take_out(flow)


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize("step", [pytest.param(step, marks=[] if step in SEEDED_STEPS else pytest.mark.slow) for step in range(1, 60)])
def test_after_a_kill_before_any_durable_step_the_same_command_comes_to_the_same_end(step: int, is_finished: bool, tmp_path: Path) -> None:
    run, flow = make_run(tmp_path, is_finished)
    dying = multiprocessing.get_context("fork").Process(target=take_out_and_die, args=(run, flow, step))
    dying.start()
    dying.join(60)
    assert dying.exitcode in (0, 9)  # 0: there are fewer
    take_out(flow)  # a command without the option comes in between
    if has_failed_rows(make_config(run.root), run):
        give_another_try(run, flow)
        take_out(flow)
    assert_the_sound_rows_are_left(run, flow)


def test_a_generation_without_failed_rows_is_left_alone(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, is_finished=True)
    manifest = read_json(run.records / "manifest.json")
    assert manifest is not None
    write_json(run.records / "manifest.json", {**manifest, "failed": 0})
    assert not has_failed_rows(make_config(tmp_path), run)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"records": "old/records"}, "makes rows again, but records is old/records, so none are made here; leave one of them out"),
        ({"training": {"streaming": True}}, "with training.streaming true: the steps are dealt out already"),
        ({}, r"would change the 6 records of .*, on which its student is trained already; choose another run_dir with generation\.reuse="),
    ],
)
def test_what_cannot_be_made_again_is_refused(settings: dict[str, Any], line: str, tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, is_finished=True)
    (run.checkpoints / "step-00000001").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"^--retry-failed {line}"):
        has_failed_rows(make_config(tmp_path, **settings), run)
