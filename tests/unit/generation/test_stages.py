"""The stages with a fake engine: rows run together, fail alone, and come back with the record's columns."""

import asyncio
import pickle
import time
from typing import Any

import pyarrow as pa
import pytest

from cgd_ray.config import PlacementConfig, RoleConfig, SamplingConfig
from cgd_ray.generation.stages import AttemptStage, CritiqueRefineStage, StageSpec, turn_seed
from cgd_ray.prompts import Prompts
from cgd_ray.records import RECORD_SCHEMA, WORK_SCHEMA, Stage
from tests.fakes import FakeEngine, FakeEngines, fake_digest

MODEL = "examples/tinymath/models/student"
FINGERPRINTS: dict[Stage, str] = {"attempt": "f-attempt", "critique": "f-critique", "refinement": "f-refinement"}


def make_spec(engines: FakeEngines | None = None, requests_in_flight: int = 8, **role: Any) -> StageSpec:
    placement = PlacementConfig(requests_in_flight=requests_in_flight)
    return StageSpec(
        role=RoleConfig(model=MODEL, placement=placement, **{"sampling": SamplingConfig(seed=7), **role}),
        prompts=Prompts(),
        fingerprints=FINGERPRINTS,
        engine_factory=engines or FakeEngines(),
    )


def make_work(count: int, **columns: Any) -> pa.Table:
    row = {"sample_index": 0, "reference_answer": None, "reference_solution": None, "error": None, **columns}
    rows = [{"record_id": f"id{i}", "problem_id": f"p{i}", "question": f"What is {i} + 1?", **row} for i in range(count)]
    return pa.Table.from_pylist(rows, schema=WORK_SCHEMA)


def run(stage: Any, table: pa.Table) -> pa.Table:
    result: pa.Table = asyncio.run(stage(table))
    return result


def test_both_stages_fill_every_column_of_the_record() -> None:
    records = run(CritiqueRefineStage(make_spec()), run(AttemptStage(make_spec()), make_work(3)))
    assert records.schema == RECORD_SCHEMA
    assert records["record_id"].to_pylist() == ["id0", "id1", "id2"]
    empty = {name for name in records.column_names if records[name].null_count == 3}
    assert empty == {"reference_answer", "reference_solution", "error", "attempt_thinking", "critique_thinking", "refinement_thinking"}
    assert records["verdict"].to_pylist() == ["wrong"] * 3
    assert records["critique_fingerprint"].to_pylist() == ["f-critique"] * 3


def test_the_engine_gets_the_words_of_the_prompts_and_the_seed_of_the_turn() -> None:
    spec = make_spec()
    row = run(AttemptStage(spec), make_work(1)).to_pylist()[0]
    (message,) = spec.prompts.solve_messages(row["question"], None)
    assert row["attempt"].startswith(fake_digest(message.content, turn_seed(7, "id0", "attempt")))


def test_an_over_long_row_fails_alone_and_keeps_what_it_has() -> None:
    work = make_work(3).to_pylist()
    work[1]["question"] = "word " * 5_000
    attempts = run(AttemptStage(make_spec(context_length=1024)), pa.Table.from_pylist(work, schema=WORK_SCHEMA))
    errors = attempts["error"].to_pylist()
    assert errors[0] is errors[2] is None
    reason = str(errors[1])
    assert reason.startswith("attempt: prompt of ")
    assert "context_length 1,024" in reason
    records = run(CritiqueRefineStage(make_spec()), attempts).to_pylist()
    assert [record["error"] for record in records] == errors
    assert [record["critique"] is None for record in records] == [False, True, False]
    assert [record["refinement"] is None for record in records] == [False, True, False]


def test_a_refused_refinement_keeps_its_critique() -> None:
    attempts = run(AttemptStage(make_spec()), make_work(1))
    critique_tokens = run(CritiqueRefineStage(make_spec()), attempts)["critique_prompt_tokens"].to_pylist()[0]
    row = run(CritiqueRefineStage(make_spec(FakeEngines(refuse_over=critique_tokens))), attempts).to_pylist()[0]
    assert row["error"] == "refinement: refused by the fake"
    assert row["verdict"] == "wrong"
    assert row["refinement"] is None


def test_columns_that_are_there_already_are_not_made_again() -> None:
    attempts = run(AttemptStage(make_spec()), make_work(2))
    assert run(AttemptStage(make_spec(FakeEngines(refuse_over=0))), attempts) == attempts


def test_a_table_of_failed_rows_alone_keeps_its_schema() -> None:
    failed = make_work(2, error="attempt: spoiled")
    records = run(CritiqueRefineStage(make_spec()), run(AttemptStage(make_spec()), failed))
    assert records.schema == RECORD_SCHEMA
    assert records["error"].to_pylist() == ["attempt: spoiled"] * 2


def test_rows_of_all_calls_share_the_engines_places() -> None:
    stage = AttemptStage(make_spec(FakeEngines(latency_s=0.005), requests_in_flight=5))

    async def two_calls() -> None:
        await asyncio.gather(stage(make_work(10)), stage(make_work(10)))

    asyncio.run(two_calls())
    engine = stage.engine
    assert isinstance(engine, FakeEngine)
    assert engine.most_running == 5


def test_a_long_answer_does_not_hold_up_other_rows() -> None:
    stage = AttemptStage(make_spec(FakeEngines(latency_s=0.05), requests_in_flight=64))
    started = time.monotonic()
    run(stage, make_work(64))
    assert time.monotonic() - started < 64 * 0.05 / 4


def test_an_engine_error_is_not_taken_for_a_rows_failure() -> None:
    class Broken(FakeEngine):
        async def generate(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("the engine is broken")

    spec = make_spec()
    stage = AttemptStage(spec)
    stage.engine = Broken(FakeEngines(), spec.role)
    with pytest.raises(RuntimeError, match="the engine is broken"):
        run(stage, make_work(1))


def test_seeds_differ_by_record_and_stage_and_stay_the_same() -> None:
    seeds = {turn_seed(0, record, stage) for record in ("a", "b") for stage in ("attempt", "critique", "refinement")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert turn_seed(0, "a", "attempt") == turn_seed(0, "a", "attempt") != turn_seed(1, "a", "attempt")


def test_what_builds_a_stage_crosses_processes() -> None:
    spec = make_spec(engine={"dtype": "bfloat16"}, chat_template_kwargs={"enable_thinking": False})
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301
