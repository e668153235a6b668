"""The arms: each sees what the method's table says and learns what it says, and reads exactly the columns it declares."""

from typing import Any

import pytest

from cgd_ray.data.prompts import Message, Prompts
from cgd_ray.training.examples.arms import ARMS, REQUIRED_COLUMNS, check_columns
from tests.builders import tiny_records

PROMPTS = Prompts(student_system="You are the student.", teacher_system="You are the teacher.")
(ROW,) = tiny_records(1, question="Q", attempt="A", critique="C", refinement="R", reference_solution="S", reference_answer="the answer")
SYSTEM = Message(role="system", content="You are the student.")
SOLVE = Message(role="user", content=PROMPTS.solve.replace("{question}", "Q"))


class ReadColumns(dict[str, Any]):
    """A record that remembers which of its columns were read."""

    def __init__(self, row: dict[str, Any]) -> None:
        super().__init__(row)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)


def test_cgd_sees_problem_attempt_and_critique_and_learns_the_refinement() -> None:
    example = ARMS["cgd"](ROW, PROMPTS)
    revise = Message(role="user", content=PROMPTS.revise.replace("{critique}", "C"))
    assert example.messages == [SYSTEM, SOLVE, Message(role="assistant", content="A"), revise]
    assert example.target == "R"


def test_refined_only_sees_the_problem_alone_and_learns_the_refinement() -> None:
    example = ARMS["refined_only"](ROW, PROMPTS)
    assert (example.messages, example.target) == ([SYSTEM, SOLVE], "R")


def test_sft_sees_the_problem_alone_and_learns_the_reference_solution() -> None:
    example = ARMS["sft"](ROW, PROMPTS)
    assert (example.messages, example.target) == ([SYSTEM, SOLVE], "S")


def test_cft_sees_the_teachers_question_under_the_students_system_message_and_learns_the_critique() -> None:
    example = ARMS["cft"](ROW, PROMPTS)
    asked = PROMPTS.critique.replace("{question}", "Q").replace("{attempt}", "A")
    assert (example.messages, example.target) == ([SYSTEM, Message(role="user", content=asked)], "C")


@pytest.mark.parametrize("arm", ARMS)
def test_without_a_students_system_message_none_is_sent(arm: str) -> None:
    messages = ARMS[arm](ROW, Prompts(teacher_system="You are the teacher.")).messages
    assert {message.role for message in messages} <= {"user", "assistant"}


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_reads_exactly_the_columns_it_declares(arm: str) -> None:
    row = ReadColumns(ROW)
    ARMS[arm](row, PROMPTS)
    assert row.names == set(REQUIRED_COLUMNS[arm])


@pytest.mark.parametrize("arm", ARMS)
def test_no_arm_shows_the_reference_answer_or_its_own_target(arm: str) -> None:
    example = ARMS[arm]({**ROW, **{name: f"<{name}>" for name in REQUIRED_COLUMNS[arm]}}, PROMPTS)
    seen = " ".join(message.content for message in example.messages)
    assert "the answer" not in seen
    assert example.target not in seen


@pytest.mark.parametrize("arm", ARMS)
def test_a_missing_column_is_refused_by_its_name(arm: str) -> None:
    check_columns(arm, REQUIRED_COLUMNS[arm])
    for missing in REQUIRED_COLUMNS[arm]:
        with pytest.raises(ValueError, match=f"training.arm is {arm}.*the records have no {missing};"):
            check_columns(arm, [name for name in REQUIRED_COLUMNS[arm] if name != missing])
