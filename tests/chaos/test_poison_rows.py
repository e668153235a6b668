"""Rows that have broken pipelines, all of them in one run among sound ones: each succeeds or says itself what is wrong with it.

The engines are fakes that count contexts with a real tokenizer; tests/integration/test_generation.py gives the same texts to real ones.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import Config, SelectionConfig, SourceConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.records import PROBLEM_SCHEMA, WORK_SCHEMA, make_record_id
from cgd_ray.data.rundir import RunDir, manifest_parts
from cgd_ray.generation.pipeline import generate
from cgd_ray.problems.sources import load_problems
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.selection.selection import select_records
from tests.fakes import FakeEngines
from tests.poison import odd_questions, over_long_questions, question_of

STUDENT = str(Path("examples/tinymath/models/student").absolute())
CONTEXT_LENGTH = 512
NUM_SOUND = 160
NO_ROOM = "attempt: prompt of {:,} tokens leaves no room in context_length 512; raise it"
MARKS = ("deadly", "sleepy", "refused", "broken", "mute", "undecided", "endless")
ENGINES = FakeEngines(
    tokenizer_of=STUDENT,
    deadly="[deadly]",
    sleepy="[sleepy]",
    refused="[refused]",
    broken="[broken]",
    mute="[mute]",
    undecided="[undecided]",
    endless="[endless]",
)


def make_config(root: Path) -> Config:
    def role(context_length: int) -> dict[str, Any]:
        placement = {"cpus_per_replica": 0.5, "requests_in_flight": 16}
        return {"model": STUDENT, "context_length": context_length, "request_timeout_s": 2.0, "placement": placement}

    # the teacher's context holds the longest question that the student's holds
    roles = {"student": role(CONTEXT_LENGTH), "teacher": role(4 * CONTEXT_LENGTH)}
    return Config.model_validate({"run_dir": str(root), "problems": {"path": "unused"}, **roles, "generation": {"batch_size": 8}})


def poison(chat: Chat) -> dict[str, str]:
    """Questions by name."""
    marks = {name: f"What is 1 + 1 [{name}]?" for name in MARKS}
    longest = {"context - 1": question_of(CONTEXT_LENGTH - 1, chat, number=1)}
    return {**odd_questions(chat), **over_long_questions(chat, CONTEXT_LENGTH), **longest, **marks}


def write_problems(run: RunDir, questions: dict[str, str], spoiled: str) -> None:
    """The sound rows and a spoiled one as a file of problems, with the poison between them, which no file of problems may hold."""
    lines = [{"id": f"sound {number}", "question": f"What is {number} + 1?"} for number in range(NUM_SOUND)]
    file = run.root / "problems.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, {"id": "surrogate", "question": spoiled}]), encoding="utf-8")
    source = SourceConfig.model_validate({"path": str(file), "fields": {"problem_id": "id"}})
    rows = make_work_list(load_problems(source, "problems", notes=[]), num_samples=1).to_pylist()
    for name, question in questions.items():
        row = {**dict.fromkeys(WORK_SCHEMA.names), "problem_id": name, "question": question, "sample_index": 0}
        rows.insert(len(rows) // 2, {**row, "record_id": make_record_id(name, 0)})
    write_work_list(pa.Table.from_pylist(rows, schema=WORK_SCHEMA), run.work_list)


@pytest.fixture(scope="module")
def finished(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, dict[str, dict[str, Any]]]:
    """A run that ended well, and its rows by name."""
    run = RunDir(tmp_path_factory.mktemp("poison"))
    write_problems(run, poison(Chat.load(STUDENT)), spoiled="half \ud83d a pair")
    manifest = generate(make_config(run.root), run, engine_factory=ENGINES)
    rows = pa.concat_tables([pq.read_table(part) for part in manifest_parts(run.records)]).to_pylist()
    assert sorted(row["record_id"] for row in rows) == sorted(pq.read_table(run.work_list)["record_id"].to_pylist())
    assert 0 < manifest["failed"] <= 0.05 * manifest["rows"]
    return run, {row["problem_id"]: row for row in rows}


Finished = tuple[RunDir, dict[str, dict[str, Any]]]


def test_a_row_that_cannot_be_processed_says_why_and_all_others_succeed(finished: Finished) -> None:
    _, rows = finished
    one_mb = len(Chat.load(STUDENT).encode("very " * (2**20 // 5)))
    errors = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert one_mb < int(errors["1 MB"].split()[3].replace(",", "")) < one_mb + 100
    del errors["1 MB"]
    assert errors == {
        "context": NO_ROOM.format(CONTEXT_LENGTH),
        "context + 1": NO_ROOM.format(CONTEXT_LENGTH + 1),
        "surrogate": "problem: text holds a lone surrogate, which is not valid Unicode",
        "refused": "attempt: refused by the fake",
        "broken": "attempt: ZeroDivisionError: broken in the fake",
        "deadly": "attempt: 3 engines died with this row inside, the last time alone; it is set aside",
        "sleepy": "attempt: no answer within request_timeout_s 2; raise it, or lower sampling.max_tokens",
    }
    unfit = {name for name, row in rows.items() if row["error"] is None and row["refinement"] is None}
    assert unfit == {"mute", "endless"}
    assert {rows[name]["verdict"] for name in ("mute", "undecided")} == {None}
    assert rows["context - 1"]["attempt_prompt_tokens"] == CONTEXT_LENGTH - 1


def test_what_control_tokens_look_like_stays_text(finished: Finished) -> None:
    _, rows = finished
    chat = Chat.load(STUDENT)
    for token in chat.tokenizer.get_added_vocab():
        question = rows[f"the text {token}"]["question"]
        assert token in question
        assert chat.count_control_tokens(chat.encode(question)) == 0


def test_selection_counts_every_poisoned_row_once(finished: Finished) -> None:
    run, rows = finished
    counts = select_records(SelectionConfig(), run.records, run.selected, lambda number: None)
    assert (counts["written"], counts["failed"], counts["dropped"]) == (len(rows), 8, {"attempt_empty": 1, "critique_truncated": 1})
    assert counts["kept"] == len(rows) - 10
    assert counts["verdicts"]["missing"] == 1


def test_the_same_records_are_refused_by_a_stricter_limit_and_kept(finished: Finished) -> None:
    run, rows = finished
    config = make_config(run.root)
    strict = config.model_copy(update={"generation": config.generation.model_copy(update={"max_failed_fraction": 0.01})})
    with pytest.raises(
        ValueError, match=rf"^8 of {len(rows)} rows failed: .*max_failed_fraction is 1.0%.* What is finished is kept in .*raise the"
    ):
        generate(strict, run, engine_factory=ENGINES)
    assert sum(pq.read_metadata(part).num_rows for part in manifest_parts(run.records)) == len(rows)


@pytest.mark.slow  # what is decided is tested in tests/unit/generation: test_suspects.py, test_stages.py
def test_an_engine_that_dies_of_whatever_is_in_it_ends_the_run_with_its_own_words(ray_local: None, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    rows = [{"problem_id": f"p{number}", "question": f"What is {number} + 1?"} for number in range(40)]
    write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples=1), run.work_list)
    broken = FakeEngines(deadly="What is", last_words="RuntimeError: CUDA error")
    with pytest.raises(
        ValueError, match=r"^student: the engine of .* died 5 times .* the last time: RuntimeError: CUDA error; mend that and"
    ):
        generate(make_config(run.root), run, engine_factory=broken)
    manifest = generate(make_config(run.root), run, engine_factory=FakeEngines())
    assert (manifest["rows"], manifest["failed"]) == (40, 0)  # no row is blamed for what happened before
