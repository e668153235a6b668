"""The stages with a fake engine: rows run together, fail alone, and come back with the record's columns."""

import asyncio
import errno
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cgd_ray.config import ApiConfig, PlacementConfig, RoleConfig, SamplingConfig, ThinkingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, Prompts
from cgd_ray.data.records import RECORD_SCHEMA, WORK_SCHEMA, Turn
from cgd_ray.engines.engine import Generation, RequestError, RunEndedError
from cgd_ray.generation.stages import AttemptStage, StageSpec, turn_seed
from cgd_ray.generation.teacher.stage import CritiqueRefineStage
from tests.fakes import FakeEngine, FakeEngines, answers_made, fake_digest

MODEL = "examples/tinymath/models/student"
FINGERPRINTS: dict[Turn, str] = {"attempt": "f-attempt", "critique": "f-critique", "refinement": "f-refinement", "direct": "f-direct"}


def make_spec(engines: FakeEngines | None = None, requests_in_flight: int = 8, direct: bool = False, **role: Any) -> StageSpec:
    placement = PlacementConfig(requests_in_flight=requests_in_flight)
    return StageSpec(
        role=RoleConfig(model=MODEL, placement=placement, **{"sampling": SamplingConfig(seed=7), **role}),
        prompts=Prompts(),
        fingerprints=FINGERPRINTS,
        engine_factory=engines or FakeEngines(),
        direct=direct,
    )


def make_work(count: int, **columns: Any) -> pa.Table:
    row = {"sample_index": 0, "reference_answer": None, "reference_solution": None, "error": None, **columns}
    rows = [{"record_id": f"id{i}", "problem_id": f"p{i}", "question": f"What is {i} + 1?", **row} for i in range(count)]
    return pa.Table.from_pylist(rows, schema=WORK_SCHEMA)


def run(stage: Any, table: pa.Table) -> pa.Table:
    result: pa.Table = asyncio.run(stage(table))
    return result


def test_both_stages_fill_every_column_of_the_record() -> None:
    records = run(CritiqueRefineStage(make_spec(direct=True)), run(AttemptStage(make_spec()), make_work(3)))
    assert records.schema == RECORD_SCHEMA
    assert records["record_id"].to_pylist() == ["id0", "id1", "id2"]
    empty = {name for name in records.column_names if records[name].null_count == 3}
    assert empty == {"reference_answer", "reference_solution", "error", *(f"{stage}_thinking" for stage in FINGERPRINTS)}
    assert records["verdict"].to_pylist() == ["wrong"] * 3
    assert records["critique_fingerprint"].to_pylist() == ["f-critique"] * 3


def test_the_engine_gets_the_words_of_the_prompts_and_the_seed_of_the_turn() -> None:
    spec = make_spec()
    row = run(AttemptStage(spec), make_work(1)).to_pylist()[0]
    (message,) = spec.prompts.solve_messages(row["question"], None)
    assert row["attempt"].startswith(fake_digest(message.content, turn_seed(7, "id0", "attempt")))


@pytest.mark.parametrize("engines", [FakeEngines(), FakeEngines(undecided="Attempt")])
def test_a_conclusion_that_is_chosen_takes_the_place_of_one_that_was_written_or_left_out(engines: FakeEngines) -> None:
    told: Counter[str] = Counter()
    spec = replace(make_spec(engines), structured_verdict=True, report=told.update)
    row = run(CritiqueRefineStage(spec), run(AttemptStage(make_spec()), make_work(1))).to_pylist()[0]
    assert row["verdict"] == "wrong"
    assert row["critique"].endswith("\n\nConclusion: wrong")
    assert row["critique"].count("Conclusion") == 1
    assert row["critique_tokens"] == 8 + 2, "those of the choice too"
    assert told["tokens"] == 8 + 2 + 8


def test_a_conclusion_that_is_not_chosen_in_time_fails_its_row() -> None:
    waiting = make_spec(FakeEngines(sleepy="\n\nConclusion:"))
    spec = replace(waiting, role=waiting.role.model_copy(update={"request_timeout_s": 0.2}), structured_verdict=True)
    row = run(CritiqueRefineStage(spec), run(AttemptStage(make_spec()), make_work(1))).to_pylist()[0]
    assert row["error"] == "critique: no answer within request_timeout_s 0.2; raise it, or lower sampling.max_tokens"
    assert row["critique"] is None


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


TROUBLES: dict[str, Callable[[str], FakeEngines]] = {
    "endless": lambda at: FakeEngines(endless=at),
    "mute": lambda at: FakeEngines(mute=at),
    "babbling": lambda at: FakeEngines(babbling=at),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_cannot_be_used_gets_no_further_turns(trouble: str) -> None:
    """The student's trouble is in the question of one row, the teacher's in the question of another; no later text repeats either."""
    told: Counter[str] = Counter()
    student = replace(make_spec(TROUBLES[trouble]("What is 1 + 1?")), report=told.update)
    teacher = replace(make_spec(TROUBLES[trouble]("What is 2 + 1?"), direct=True), report=told.update, cut_attempts="drop")
    records = run(CritiqueRefineStage(teacher), run(AttemptStage(student), make_work(4))).to_pylist()
    assert [[row[stage] is not None for stage in FINGERPRINTS] for row in records] == [
        [True, True, True, True],
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, True],
    ]
    assert [row["error"] for row in records] == [None] * 4
    assert (told["unusable"], told["student_rows"], told["teacher_rows"]) == (2, 4, 4)
    assert told["repetitive"] == (2 if trouble == "babbling" else 0)


def test_a_cut_attempt_is_criticised_and_a_cut_critique_is_not_refined() -> None:
    told: Counter[str] = Counter()
    student = make_spec(FakeEngines(endless="What is 1 + 1?"))
    teacher = replace(make_spec(FakeEngines(endless="What is 2 + 1?")), report=told.update)
    records = run(CritiqueRefineStage(teacher), run(AttemptStage(student), make_work(3))).to_pylist()
    assert [[row[f"{turn}_finish_reason"] for turn in ("attempt", "critique", "refinement")] for row in records] == [
        ["stop", "stop", "stop"],
        ["length", "stop", "stop"],
        ["stop", "length", None],
    ]
    assert told["unusable"] == 1


def test_an_attempt_that_was_cut_inside_its_thought_has_nothing_to_criticise() -> None:
    work = run(AttemptStage(make_spec()), make_work(1)).to_pylist()
    thinking = {"attempt": "", "attempt_thinking": "hm, and then", "attempt_finish_reason": "length"}
    row = run(CritiqueRefineStage(make_spec()), pa.Table.from_pylist([work[0] | thinking], schema=RECORD_SCHEMA)).to_pylist()[0]
    assert (row["critique"], row["refinement"], row["error"]) == (None, None, None)


def test_the_teacher_hands_on_every_row_that_it_has_finished_also_failed_ones() -> None:
    seen: list[dict[str, Any]] = []
    attempts = run(AttemptStage(replace(make_spec(FakeEngines(refused="What is 1 + 1?")), sample=seen.append)), make_work(3))
    assert seen == [], "the student's rows are not finished"
    records = run(CritiqueRefineStage(replace(make_spec(), sample=seen.append)), attempts)
    assert sorted(row["record_id"] for row in seen) == records["record_id"].to_pylist()
    assert [row["error"] for row in seen if row["record_id"] == "id1"] == ["attempt: refused by the fake"]


def test_columns_that_are_there_already_are_not_made_again() -> None:
    attempts = run(AttemptStage(make_spec()), make_work(2))
    assert run(AttemptStage(make_spec(FakeEngines(refuse_over=0))), attempts) == attempts


def test_a_table_of_failed_rows_alone_keeps_its_schema() -> None:
    failed = make_work(2, error="attempt: spoiled")
    records = run(CritiqueRefineStage(make_spec(direct=True)), run(AttemptStage(make_spec()), failed))
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
    class Patient(FakeEngine):
        """Answers nobody before everybody has asked."""

        num_asked, all_have_asked = 0, asyncio.Event()

        async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
            self.num_asked += 1
            if self.num_asked == 64:
                self.all_have_asked.set()
            await asyncio.wait_for(self.all_have_asked.wait(), timeout=60)
            return await super().generate(messages, sampling, seed)

    spec = make_spec(requests_in_flight=64)
    stage = AttemptStage(spec)
    stage.engine = Patient(FakeEngines(), spec.role)
    assert run(stage, make_work(64))["error"].null_count == 64


def stage_that_fails(error: BaseException, mark: str = "") -> AttemptStage:
    """A stage whose engine raises for questions that hold `mark` and answers all others."""

    class Failing(FakeEngine):
        async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
            if any(mark in message.content for message in messages):
                raise error
            return await super().generate(messages, sampling, seed)

    spec = make_spec()
    stage = AttemptStage(spec)
    stage.engine = Failing(FakeEngines(), spec.role)
    return stage


def test_a_row_whose_engine_call_fails_unexpectedly_says_why_and_the_others_succeed() -> None:
    rows = run(stage_that_fails(KeyError("token"), mark="What is 1 + 1?"), make_work(3)).to_pylist()
    assert [row["error"] for row in rows] == [None, "attempt: KeyError: 'token'", None]
    assert [row["attempt"] is None for row in rows] == [False, True, False]


def test_a_long_unexpected_error_becomes_one_short_line() -> None:
    row = run(stage_that_fails(RuntimeError("two\nlines" + " of many words" * 1_000), mark="What is"), make_work(1)).to_pylist()[0]
    assert row["error"].startswith("attempt: RuntimeError: two lines of many words")
    assert len(row["error"]) < 320


def test_where_an_unexpected_error_came_from_is_logged_once_for_its_type(caplog: pytest.LogCaptureFixture) -> None:
    run(stage_that_fails(KeyError("token"), mark="What is"), make_work(5))
    (record,) = (record for record in caplog.records if record.name == "cgd_ray.generation.failures")
    assert "in generate" in caplog.text
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), asyncio.CancelledError()])
def test_a_full_disk_and_a_cancellation_are_not_taken_for_a_rows_failure(error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(stage_that_fails(error, mark="What is 1 + 1?"), make_work(3))


def test_seeds_differ_by_record_and_stage_and_stay_the_same() -> None:
    seeds = {turn_seed(0, record, stage) for record in ("a", "b") for stage in ("attempt", "critique", "refinement")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert turn_seed(0, "a", "attempt") == turn_seed(0, "a", "attempt") != turn_seed(1, "a", "attempt")


def test_what_builds_a_stage_crosses_processes() -> None:
    spec = make_spec(engine={"dtype": "bfloat16"}, chat_template_kwargs={"enable_thinking": False})
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301


def test_a_direct_answer_is_made_only_when_it_is_asked_for_and_from_the_problem_alone() -> None:
    attempts = run(AttemptStage(make_spec()), make_work(2))
    assert "direct" not in run(CritiqueRefineStage(make_spec()), attempts).column_names
    spec = make_spec(direct=True)
    row = run(CritiqueRefineStage(spec), attempts).to_pylist()[0]
    (message,) = spec.prompts.solve_messages(row["question"], None)
    assert row["direct"].startswith(fake_digest(message.content, turn_seed(7, "id0", "direct")))


def test_a_refinement_that_grades_wrong_is_asked_for_again_with_another_seed() -> None:
    spec = replace(make_spec(), refine_attempts=3)
    answer = len("\n".join(message.content for message in spec.prompts.refine_messages("What is 0 + 1?", "x", "y")).encode())
    attempts = run(AttemptStage(make_spec()), make_work(1)).to_pylist()
    right, wrong = ({**attempts[0], "attempt": "x", "critique": "y", "reference_answer": str(answer + shift)} for shift in (0, 1))
    with closing(CritiqueRefineStage(spec)) as stage:
        rows = run(stage, pa.Table.from_pylist([right, wrong], schema=RECORD_SCHEMA)).to_pylist()
    assert [row["num_refinements"] for row in rows] == [1, 3]
    assert rows[0]["refinement_seed"] != rows[1]["refinement_seed"]


def refined(tries: int, engine: type[FakeEngine] = FakeEngine) -> tuple[dict[str, Any], Counter[str]]:
    """A row whose refinements all grade wrong, and what was counted."""
    counts: Counter[str] = Counter()
    spec = replace(make_spec(), refine_attempts=tries, report=counts.update)
    (attempt,) = run(AttemptStage(make_spec()), make_work(1, reference_answer="-1")).to_pylist()
    row = {**attempt, "critique": "y", "refinement": None}
    with closing(CritiqueRefineStage(spec)) as stage:
        stage.engine = engine(FakeEngines(), spec.role)
        (row,) = run(stage, pa.Table.from_pylist([row], schema=RECORD_SCHEMA)).to_pylist()
    return row, counts


def test_a_repeated_refinement_is_one_turn_with_the_tokens_of_all_its_tries() -> None:
    (once, _), (row, counts) = refined(1), refined(3)
    assert row["num_refinements"] == 3
    for kind in ("prompt_tokens", "cached_tokens", "tokens"):
        assert row[f"refinement_{kind}"] == 3 * once[f"refinement_{kind}"]
    assert (counts["refinements"], counts["tokens"], counts["failed"]) == (1, 24, 0)


def test_a_repetition_that_is_refused_leaves_the_refinement_before_it() -> None:
    class TiresAfterTwo(FakeEngine):
        answered = 0

        async def generate(self, *args: Any, **kwargs: Any) -> Any:
            if self.answered == 2:
                raise RequestError("refused by the fake")
            self.answered += 1
            return await super().generate(*args, **kwargs)

    (kept, _), (row, counts) = refined(2), refined(5, TiresAfterTwo)
    assert row == kept
    assert (row["error"], row["num_refinements"], counts["refinements"], counts["failed"]) == (None, 2, 1, 0)


def test_a_thought_that_the_template_has_begun_and_nothing_ends_is_no_answer() -> None:
    stage, tokenizer = AttemptStage(make_spec()), Chat.load(MODEL).tokenizer
    (answer,) = run(stage, make_work(1))["attempt"].to_pylist()
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    assert isinstance(stage.engine, FakeEngine)
    stage.engine.chat = Chat(tokenizer, thinking=ThinkingConfig())
    row = run(stage, make_work(1)).to_pylist()[0]
    assert (row["attempt"], row["attempt_finish_reason"]) == ("", "length")
    assert row["attempt_thinking"].split()[0] == answer.split()[0]


def test_critique_and_refinement_are_shown_one_and_the_same_beginning_of_a_long_attempt() -> None:
    """However long the critique turned out, so that it never speaks of what the refinement does not see."""
    asked: list[Sequence[Message]] = []

    class Listening(FakeEngine):
        async def generate(self, messages: Sequence[Message], *args: Any, **kwargs: Any) -> Generation:
            asked.append(messages)
            generation = await super().generate(messages, *args, **kwargs)
            return replace(generation, text="Wrong. " * 60 + generation.text)

    spec = make_spec(context_length=1024)
    attempts = run(AttemptStage(make_spec()), make_work(1)).to_pylist()
    work = pa.Table.from_pylist([{**attempts[0], "attempt": "it is 2 " * 400}], schema=RECORD_SCHEMA)
    stage = CritiqueRefineStage(spec)
    stage.engine = Listening(FakeEngines(tokenizer_of=MODEL), spec.role)
    row = run(stage, work).to_pylist()[0]
    assert row["error"] is None
    critique, refinement = asked
    assert list(refinement[: len(critique)]) == list(critique)
    assert 0 < critique[-1].content.count("it is 2") < 400


def test_a_failed_row_that_comes_with_deaths_is_not_let_in_again(tmp_path: Path) -> None:
    (tmp_path / "deaths.txt").write_text("id0\n" * 3)
    row = run(AttemptStage(replace(make_spec(), suspects=tmp_path)), make_work(1)).to_pylist()[0]
    assert row["error"].startswith("attempt: 3 engines died with this row inside")


def test_an_engine_that_ends_the_run_stops_all_rows_and_leaves_its_reason(tmp_path: Path) -> None:
    class Broke(FakeEngine):
        async def generate(self, *args: Any, **kwargs: Any) -> Any:
            raise RunEndedError("no money left")

    flag = tmp_path / "stop"
    spec = replace(make_spec(), stop_flag=flag)
    stage = AttemptStage(spec)
    stage.engine = Broke(FakeEngines(), spec.role)
    assert run(stage, make_work(3)).num_rows == 0
    assert flag.read_text() == "no money left"


@pytest.mark.parametrize("error", [RequestError("temperature is not supported"), TypeError("no such argument")])
def test_a_fault_of_every_request_fails_no_row_and_ends_the_run_with_its_words(error: Exception, tmp_path: Path) -> None:
    stage = stage_that_fails(error, mark="")
    stage._spec = replace(stage._spec, stop_flag=tmp_path / "stop")
    assert run(stage, make_work(20)).num_rows == 0
    assert (tmp_path / "stop").read_text() == (
        f"student: the engine answers nothing with these settings, not even 'Say yes.': {error}; mend that and run the same command again, "
        "or choose another run_dir with other settings; no row has failed of it"
    )


def test_rows_fail_alone_once_anything_was_answered(tmp_path: Path) -> None:
    """Also where it is the sign of life alone; nothing is asked for a sign after that."""
    journal = tmp_path / "answers"
    stage = AttemptStage(make_spec(FakeEngines(refused="What is", journal=str(journal))))
    assert [row["error"] for row in run(stage, make_work(20)).to_pylist()] == ["attempt: refused by the fake"] * 20
    assert len(answers_made(journal)) == 1


def test_a_generation_drawn_from_the_engines_own_generator_has_no_seed() -> None:
    drawn = make_spec(sampling=SamplingConfig(temperature=1.0, seed_per_request=False))
    assert run(AttemptStage(drawn), make_work(2))["attempt_seed"].null_count == 2


def test_engines_that_died_again_and_again_end_the_run_with_their_last_words(tmp_path: Path) -> None:
    (tmp_path / "student.deaths_in_a_row").write_text("no-actor\tCUDA error\n" * 5)
    (tmp_path / "deaths.txt").write_text("id0\n" * 3)  # of rows that were inside by chance
    stage = AttemptStage(replace(make_spec(), suspects=tmp_path, stop_flag=tmp_path / "stop"))
    assert run(stage, make_work(3)).num_rows == 0
    assert (
        (tmp_path / "stop")
        .read_text()
        .startswith(f"student: the engine of {MODEL} died 5 times before any had made anything, the last time: CUDA")
    )


@pytest.mark.parametrize(("reason", "num_finished"), [("", 1), ("no money left", 0)])
def test_paid_answers_are_waited_for_as_long_as_a_request_may_take_only_when_an_engine_ends_the_run(
    reason: str, num_finished: int, tmp_path: Path
) -> None:
    flag = tmp_path / "stop"

    class Slow(FakeEngine):
        async def generate(self, *args: Any, **kwargs: Any) -> Any:
            flag.write_text(reason)  # while it answers
            await asyncio.sleep(2)
            return await super().generate(*args, **kwargs)

    endpoint = ApiConfig(base_url="http://127.0.0.1:9/v1", request_timeout_s=0.1)  # shorter than the grace after SIGTERM
    spec = replace(make_spec(api=endpoint), stop_flag=flag)
    stage = AttemptStage(spec)
    stage.engine = Slow(FakeEngines(), spec.role)
    assert run(stage, make_work(1)).num_rows == num_finished
