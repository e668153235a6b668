"""The generation pipeline on a local Ray: against bare vLLM, through kills and deaths, and with rows that cannot be served."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config, PlacementConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import PROBLEM_SCHEMA, RECORD_SCHEMA
from cgd_ray.data.rundir import RunDir, manifest_parts, read_manifest
from cgd_ray.generation.pipeline import STOP_FLAG, generate, run_attempts
from cgd_ray.generation.pools.elasticity import CALLS_PER_PLACE
from cgd_ray.generation.pools.flow_control import BLOCKS_PER_PROCESS
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.process.stopping import EXIT_STOPPED, StoppedError
from tests.bare_vllm import bare_vllm
from tests.fakes import FakeEngines, NeverUp, answers_made
from tests.poison import odd_questions, over_long_questions, question_of
from tests.processes import begun

MAX_TOKENS = 128  # enough for the embedded models' answers, so that few are cut
WITHOUT_DIRECT = pa.schema([field for field in RECORD_SCHEMA if not field.name.startswith("direct")])
STUDENT, TEACHER = (str(Path("examples/tinymath/models", name).absolute()) for name in ("student", "teacher"))


def make_config(run_dir: Path, **generation: Any) -> Config:
    def role(model: str) -> dict[str, Any]:
        return {
            "model": model,
            "context_length": 1024,
            "sampling": {"max_tokens": MAX_TOKENS},
            # float32: in bfloat16 a tie between two tokens falls one way or the other with the size of the batch
            "engine": {"dtype": "float32"},
            "placement": {"cpus_per_replica": 0.5, "requests_in_flight": 32},
        }

    tree = {"run_dir": str(run_dir), "problems": {"path": "unused"}, "student": role(STUDENT), "teacher": role(TEACHER)}
    return Config.model_validate({**tree, "generation": generation})


def write_problems(run: RunDir, questions: list[str], reference_answer: str | None = None) -> None:
    rest = {"reference_answer": reference_answer, "reference_solution": None, "error": None}
    rows = [{"problem_id": f"p{index}", "question": question, **rest} for index, question in enumerate(questions)]
    write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples=1), run.work_list)


def read_records(directory: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(part) for part in manifest_parts(directory)])


def assert_exactly_once(run: RunDir) -> None:
    ids = read_records(run.records)["record_id"].to_pylist()
    assert sorted(ids) == sorted(pq.read_table(run.work_list)["record_id"].to_pylist())


@pytest.mark.slow  # by default test_run.py compares the records of the whole job, and tests/chaos has over-long rows
def test_greedy_through_the_pipeline_is_greedy_through_bare_vllm_and_over_long_rows_fail_alone(tmp_path: Path, ray_local: Any) -> None:
    questions = [f"Tom has {n} apples and buys {n * 7 % 31} more. How many has he?" for n in range(24)]
    run, config, prompts = RunDir(tmp_path), make_config(tmp_path, max_failed_fraction=0.1), Prompts()
    student, teacher = Chat.load(STUDENT), Chat.load(TEACHER)
    over_long, longest = over_long_questions(student, 1024).values(), question_of(1023, student, number=1)
    write_problems(run, [*questions, *odd_questions(student).values(), *over_long, longest])
    manifest = generate(config, run)
    assert (manifest["rows"], manifest["failed"]) == (35, 3)
    table = read_records(run.records)
    assert table.schema.equals(WITHOUT_DIRECT)
    failed = {row["problem_id"]: row for row in table.to_pylist() if row["error"] is not None}
    assert sorted(failed) == ["p31", "p32", "p33"]
    assert all("leaves no room in context_length 1,024" in row["error"] for row in failed.values())

    rows = [row for row in table.to_pylist() if row["refinement"] is not None]
    cut = {row["problem_id"]: row for row in table.to_pylist() if row["error"] is None and row["refinement"] is None}
    assert (cut["p34"]["attempt_tokens"], cut["p34"]["attempt_finish_reason"]) == (1, "length")  # longest: there is room for one token
    assert len(rows) > 15  # the embedded models do not know these prompts, and often ramble until they are cut
    attempts = [student.prompt(prompts.solve_messages(row["question"], None)).input_ids for row in rows]
    critiques = [teacher.prompt(prompts.critique_messages(row["question"], row["attempt"])).input_ids for row in rows]
    refinements = [teacher.prompt(prompts.refine_messages(row["question"], row["attempt"], row["critique"])).input_ids for row in rows]
    expected = bare_vllm(TEACHER, critiques + refinements, max_tokens=MAX_TOKENS)
    assert [row["attempt"] for row in rows] == bare_vllm(STUDENT, attempts, max_tokens=MAX_TOKENS)
    assert [row["critique"] for row in rows] == expected[: len(rows)]
    assert [row["refinement"] for row in rows] == expected[len(rows) :]
    assert sum(row["refinement_cached_tokens"] for row in rows) > 0.5 * sum(row["critique_prompt_tokens"] for row in rows)


DRIVER = """
import sys
import ray
from cgd_ray.data.rundir import RunDir
from cgd_ray.generation.pipeline import generate
from tests.fakes import FakeEngines
from tests.integration.test_generation import make_config
if __name__ == "__main__":
    ray.init(address=sys.argv[2], log_to_driver=False)
    run = RunDir(sys.argv[1])
    generate(make_config(run.root, batch_size=4, rows_per_block=8), run, engine_factory=FakeEngines(latency_s=0.2))
"""


def start_driver(run: RunDir) -> "subprocess.Popen[bytes]":
    """A generation by another process, on the Ray of this one."""
    import ray

    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    address = ray.get_runtime_context().gcs_address
    return begun([sys.executable, "-c", DRIVER, str(run.root), address], env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.slow  # tests/chaos kills a driver by default
def test_a_driver_killed_in_the_middle_and_run_again_makes_every_record_exactly_once(tmp_path: Path, ray_local: Any) -> None:
    run = RunDir(tmp_path)
    write_problems(run, [f"What is {n} + 1?" for n in range(400)])
    driver = start_driver(run)
    while len(list((run.generation_state / "ids").glob("*.parquet"))) < 5:
        assert driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert read_manifest(run.records) is None
    kept = {file.name: file.stat().st_mtime_ns for file in run.records.glob("*.parquet")}

    assert start_driver(run).wait(timeout=300) == 0
    assert_exactly_once(run)
    manifest = read_manifest(run.records)
    assert manifest is not None
    assert manifest["resumed"] > 0
    again = {file.name: file.stat().st_mtime_ns for file in run.records.glob("*.parquet")}
    assert len(kept.items() & again.items()) >= len(kept) - 1  # at most the part that was being written is made again


@pytest.mark.slow  # tests/chaos bounds by default what is in flight when a run is killed
def test_a_fast_student_stays_close_to_a_slow_teacher(tmp_path: Path, ray_local: Any) -> None:
    run, config, go = RunDir(tmp_path), make_config(tmp_path), tmp_path / "go"
    write_problems(run, [f"What is {n} + 1?" for n in range(450)])
    told: list[int] = []

    def let_the_teacher_go_when_the_student_waits(counts: dict[str, int]) -> None:
        told.append(counts["attempts"])
        if not go.exists() and told.count(max(told)) > 8 and max(told) > 0:
            (tmp_path / "ahead").write_text(str(max(told)))
            go.touch()

    generate(config, run, let_the_teacher_go_when_the_student_waits, FakeEngines(held="Attempt:", until=str(go)))
    batch, places = config.generation.batch_size, config.teacher.placement.requests_in_flight
    held = batch * (CALLS_PER_PLACE * places // batch + 1)
    # what the teacher holds, what waits for it, and what the student had in hand when that was enough
    assert int((tmp_path / "ahead").read_text()) <= held + BLOCKS_PER_PROCESS * batch + held < 400
    assert_exactly_once(run)


@pytest.mark.slow  # test_autoscaling.py has pools that grow by default
def test_a_pool_grows_to_its_most_replicas_while_rows_wait_and_no_further(tmp_path: Path, ray_local: Any) -> None:
    run, config, journal = RunDir(tmp_path), make_config(tmp_path, batch_size=4), tmp_path / "journal"
    write_problems(run, [f"{'Later' if n >= 130 else 'Now'}: what is {n} + 1?" for n in range(160)])
    deadline, go = time.monotonic() + 120, tmp_path / "go"

    def num_engines() -> int:
        return len(list(journal.iterdir())) if journal.exists() else 0  # a file of each

    def let_the_later_ones_go_when_all_engines_are_there(counts: dict[str, int]) -> None:
        if num_engines() == 3 + 2 or time.monotonic() > deadline:
            go.touch()

    def grown(role: str, most: int) -> Any:
        placement = {"cpus_per_replica": 0.5, "requests_in_flight": 4, "min_replicas": 1, "max_replicas": most}
        return getattr(config, role).model_copy(update={"placement": PlacementConfig.model_validate(placement)})

    grows = config.model_copy(update={"student": grown("student", 3), "teacher": grown("teacher", 2)})
    engines = FakeEngines(latency_s=0.1, journal=str(journal), held="Later", until=str(go))
    manifest = generate(grows, run, let_the_later_ones_go_when_all_engines_are_there, engines)
    assert (manifest["rows"], manifest["failed"]) == (160, 0)
    assert num_engines() == 3 + 2


@pytest.mark.slow  # tests/chaos has rows that engines die of by default
def test_an_engine_that_dies_is_replaced_and_no_record_is_lost(tmp_path: Path, ray_local: Any) -> None:
    run, config = RunDir(tmp_path), make_config(tmp_path, batch_size=4)
    write_problems(run, [f"What is {n} + 1?" for n in range(100)])
    engines = FakeEngines(latency_s=0.01, deadly="?", death_certificate=str(tmp_path / "died"))
    manifest = generate(config, run, engine_factory=engines)
    assert (tmp_path / "died").exists()
    assert (manifest["rows"], manifest["failed"]) == (100, 0)
    assert_exactly_once(run)


@pytest.mark.slow  # tests/unit/generation has the limit, tests/chaos records that are refused for it
def test_too_many_failed_rows_end_the_run_before_all_are_tried_and_what_is_made_is_kept(tmp_path: Path, ray_local: Any) -> None:
    old = RunDir(tmp_path / "old")
    write_problems(old, [f"What is {n} + 1{' [broken]' if n < 15 else ''}?" for n in range(250)])
    config = make_config(old.root)
    failing = FakeEngines(latency_s=0.1, broken="[broken]", journal=str(tmp_path / "journal"))
    too_many = r"15 of 250 rows failed: 6\.0%, generation\.max_failed_fraction is 5\.0%\. Most often \(15 times.*broken in the fake"
    with pytest.raises(ValueError, match=f"{too_many}.*generation\\.reuse=.*raise the limit and run the same command again"):
        generate(config, old, engine_factory=failing)
    made = sum(pq.read_metadata(part).num_rows for part in old.records.glob("*.parquet"))
    asked = answers_made(tmp_path / "journal")
    assert 15 < made < 250
    with pytest.raises(ValueError, match=too_many):  # nor is anything begun again
        generate(config, old, engine_factory=failing)
    assert answers_made(tmp_path / "journal") == asked

    manifest = generate(make_config(old.root, max_failed_fraction=0.1), old, engine_factory=FakeEngines())  # goes on
    assert (manifest["rows"], manifest["failed"], manifest["resumed"]) == (250, 15, made)
    assert_exactly_once(old)


@pytest.mark.slow  # tests/unit/generation has the check with the stages' part played
def test_a_teacher_that_fails_its_check_ends_the_run_and_a_lower_threshold_goes_on(tmp_path: Path, ray_local: Any) -> None:
    run, said, journal = RunDir(tmp_path), list[str](), tmp_path / "journal"
    write_problems(run, [f"What is {n} + 1?" for n in range(400)], reference_answer="-1")
    config = make_config(run.root, batch_size=4, rows_per_block=8, teacher_check={"rows": 20})
    engines = FakeEngines(latency_s=0.2, journal=str(journal))
    with pytest.raises(ValueError, match=r"the teacher fails the check of the first 20 rows: .*; 0 of 20 refinements are right\. Too few"):
        generate(config, run, engine_factory=engines, say=said.append)
    made = sum(pq.read_metadata(part).num_rows for part in run.records.glob("*.parquet"))
    asked = answers_made(journal)
    assert (len(said), made < 400) == (1, True)
    with pytest.raises(ValueError, match="the teacher fails the check"):  # nor is anything begun again
        generate(config, run, engine_factory=engines, say=said.append)
    assert answers_made(journal) == asked

    lower = make_config(run.root, teacher_check={"rows": 20, "least": 0.0})
    manifest = generate(lower, run, engine_factory=FakeEngines(), say=said.append)
    assert (manifest["rows"], manifest["resumed"], manifest["teacher_check"]["right"], len(said)) == (400, made, 0, 1)
    assert_exactly_once(run)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_local: Any) -> RunDir:
    """A run of 40 rows, of which five failed at first and were made again."""
    run = RunDir(tmp_path_factory.mktemp("finished"))
    config, journal = make_config(run.root, max_failed_fraction=0.5), run.root / "journal"
    write_problems(run, [f"What is {n} + 1{' [broken]' if n < 5 else ''}?" for n in range(40)])
    before = generate(config, run, engine_factory=FakeEngines(broken="[broken]"))
    assert (before["rows"], before["failed"]) == (40, 5)
    again = generate(config, run, engine_factory=FakeEngines(journal=str(journal)), retry_failed=True)
    assert again["engine_seconds"]["student"] > before["engine_seconds"]["student"]
    return run


def test_failed_rows_are_made_again_where_that_is_asked_for_and_the_others_stay(finished: RunDir) -> None:
    manifest = read_manifest(finished.records)
    assert manifest is not None
    assert (manifest["rows"], manifest["failed"], manifest["resumed"]) == (40, 0, 35)
    assert len(answers_made(finished.root / "journal")) == 3 * 5
    assert_exactly_once(finished)


def test_a_run_of_other_settings_does_not_mix_with_what_is_there(finished: RunDir) -> None:
    config = make_config(finished.root, max_failed_fraction=0.5)
    other = config.model_copy(update={"student": config.student.model_copy(update={"model": TEACHER})})
    with pytest.raises(ValueError, match="was made by other models, prompts or sampling"):
        generate(other, finished, engine_factory=FakeEngines())


def test_answers_of_one_model_report_their_progress_and_free_their_actors(tmp_path: Path, ray_local: Any) -> None:
    import ray

    run, config = RunDir(tmp_path), make_config(tmp_path)
    write_problems(run, [f"What is {n} + 1?" for n in range(40)])
    told: list[dict[str, int]] = []
    run_attempts(config.student, Prompts(), run.work_list, tmp_path / "answers", told.append, engine_factory=FakeEngines())
    answers = read_records(tmp_path / "answers")
    assert answers.num_rows == 40
    assert answers["attempt"].null_count == 0
    assert {name: told[-1][name] for name in ("attempts", "failed", "tokens")} == {"attempts": 40, "failed": 0, "tokens": 320}
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, "an actor still holds its CPUs"
        time.sleep(0.1)


@pytest.mark.slow  # tests/unit/generation/test_draining.py has what is decided; by default a training and a live run are asked to stop
def test_sigterm_leaves_within_half_a_minute_and_the_next_run_makes_the_rest(tmp_path: Path, ray_local: Any) -> None:
    run = RunDir(tmp_path)
    write_problems(run, [f"What is {n} + 1?" for n in range(160)])
    driver = start_driver(run)
    while len(list((run.generation_state / "ids").glob("*.parquet"))) < 3:
        assert driver.poll() is None, "the driver ended before it could be stopped"
        time.sleep(0.02)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=60) not in (0, EXIT_STOPPED)  # it ends by itself, before its time, 28 s, is up
    finished = sum(pq.read_metadata(part).num_rows for part in run.records.glob("*.parquet"))
    assert 0 < finished < 160

    manifest = generate(make_config(run.root), run, engine_factory=FakeEngines())
    assert manifest["resumed"] == finished
    assert_exactly_once(run)


@pytest.mark.slow  # tests/unit/generation/test_starting.py has the actor's part
def test_a_generation_asked_to_stop_while_its_engines_start_ends_without_them(tmp_path: Path, ray_local: Any) -> None:
    run, begun_file = RunDir(tmp_path / "run"), tmp_path / "begun"
    write_problems(run, [f"What is {n} + 1?" for n in range(8)])

    def stop_once_begun() -> None:
        while not begun_file.exists():
            time.sleep(0.05)
        (run.generation_state / STOP_FLAG).touch()  # as SIGTERM does

    stopping = threading.Thread(target=stop_once_begun, daemon=True)
    stopping.start()
    with pytest.raises(StoppedError, match="0 of 8 rows finished"):
        generate(make_config(run.root), run, engine_factory=NeverUp(begun=str(begun_file)))
    assert generate(make_config(run.root), run, engine_factory=FakeEngines())["rows"] == 8


def test_a_new_critique_prompt_makes_critiques_again_and_reuses_attempts(finished: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "new")
    run.work_list.parent.mkdir(parents=True)
    shutil.copy(finished.work_list, run.work_list)
    (tmp_path / "prompts.yaml").write_text("critique: 'Judge {question} {attempt}'")
    config = make_config(run.root, reuse=[str(finished.records)]).model_copy(update={"prompts": str(tmp_path / "prompts.yaml")})
    manifest = generate(config, run, engine_factory=FakeEngines())
    assert {stage: counts["rows"] for stage, counts in manifest["reused"].items()} == {"attempt": 40, "critique": 0, "refinement": 0}
    assert manifest["reused"]["attempt"]["tokens"] == manifest["tokens"]["attempt"]["tokens"] > 0
    before, after = (read_records(directory).sort_by("record_id") for directory in (finished.records, run.records))
    assert after.schema.equals(WITHOUT_DIRECT)
    assert before["attempt"] == after["attempt"]
    assert before["critique"] != after["critique"]
