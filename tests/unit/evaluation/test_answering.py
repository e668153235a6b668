"""The engine is asked the conversation of its row, whatever that is, and what comes back is the row with an attempt."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.data.prompts import Message, Prompts
from cgd_ray.data.records import WORK_SCHEMA, columns_of
from cgd_ray.evaluation.answering import AnsweringStage
from cgd_ray.evaluation.benchmarks.loading import MESSAGES, content_sha256
from cgd_ray.evaluation.papers import ASKED_SCHEMA, Paper
from cgd_ray.generation.stages import turn_seed
from tests.exams import paper_of
from tests.fakes import fake_digest
from tests.unit.generation.test_stages import make_spec, make_work, run

CONVERSATION = [{"role": "user", "content": "What is 1 + 1?"}, {"role": "assistant", "content": "3"}, {"role": "user", "content": "No."}]


def conversing(path: Path, conversation: list[dict[str, str]]) -> Paper:
    """A paper of one problem in the middle of a conversation."""
    (row,) = make_work(1).to_pylist()
    pq.write_table(pa.Table.from_pylist([{**row, MESSAGES: conversation}], schema=ASKED_SCHEMA), path)
    return Paper(name="conversing", work_list=path)


def test_the_model_takes_the_next_turn_of_a_conversation(tmp_path: Path) -> None:
    asked = conversing(tmp_path / "work.parquet", CONVERSATION).asked(Prompts())
    (row,) = run(AnsweringStage(make_spec()), asked).to_pylist()
    words = "\n".join(message["content"] for message in CONVERSATION)
    assert row["attempt"].startswith(fake_digest(words, turn_seed(7, row["record_id"], "attempt")))
    assert list(row) == [*WORK_SCHEMA.names, *columns_of("attempt")]


def test_a_problem_alone_is_asked_as_the_generation_asks_it(tmp_path: Path) -> None:
    prompts = Prompts(student_system="Be brief.")
    asked = paper_of(tmp_path, "sums", {"What is 2 + 2?": "4"}).asked(prompts)
    assert asked.schema == ASKED_SCHEMA
    (messages,) = asked[MESSAGES].to_pylist()
    assert [Message(**message) for message in messages] == prompts.solve_messages("What is 2 + 2?", "Be brief.")


def test_another_conversation_is_another_paper(tmp_path: Path) -> None:
    one, other = (conversing(tmp_path / f"{number}.parquet", CONVERSATION[:number]) for number in (1, 3))
    assert one.content != other.content
    assert one.content == content_sha256(one.rows)
