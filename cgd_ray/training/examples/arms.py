"""What the student sees and what it learns to produce: one function per arm, all behind one signature.

An arm turns a record into a prompt and a target, or into None when the record lacks what it needs. Adding an arm is adding a function
and one entry in ARMS and REQUIRED_COLUMNS. How to use: `ARMS[training.arm](row, prompts)`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cgd_ray.data.prompts import Message, Prompts


@dataclass(frozen=True, kw_only=True)
class ArmExample:
    """A conversation and the assistant's next turn; the loss is on that turn alone."""

    messages: Sequence[Message]
    target: str


Arm = Callable[[Mapping[str, Any], Prompts], ArmExample]


def cgd(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x, y', c -> y^: critique-guided distillation."""
    messages = prompts.revise_messages(row["question"], row["attempt"], row["critique"])
    return ArmExample(messages=messages, target=row["refinement"])


def refined_only(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x -> y^: the control that tells the critique's worth from the better answer's."""
    return ArmExample(messages=prompts.solve_messages(row["question"], prompts.student_system), target=row["refinement"])


def distilled_sft(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x -> the teacher's direct answer: plain distillation, without attempt or critique."""
    return ArmExample(messages=prompts.solve_messages(row["question"], prompts.student_system), target=row["direct"])


def sft(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x -> the data set's own solution."""
    return ArmExample(messages=prompts.solve_messages(row["question"], prompts.student_system), target=row["reference_solution"])


def cft(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x, y' -> c: the student learns to write critiques, under its own system message rather than the teacher's."""
    asked = [message for message in prompts.critique_messages(row["question"], row["attempt"]) if message.role != "system"]
    system = [] if prompts.student_system is None else [Message(role="system", content=prompts.student_system)]
    return ArmExample(messages=[*system, *asked], target=row["critique"])


def cgd_without_attempt(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x, c -> y^: is it the student's own attempt that makes the critique useful?"""
    return ArmExample(messages=prompts.revise_without_attempt_messages(row["question"], row["critique"]), target=row["refinement"])


def cgd_without_critique(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x, y' -> y^: is it the critique, or just a second try?"""
    return ArmExample(messages=prompts.revise_without_critique_messages(row["question"], row["attempt"]), target=row["refinement"])


ARMS: dict[str, Arm] = {
    "cgd": cgd,
    "refined_only": refined_only,
    "sft": sft,
    "distilled_sft": distilled_sft,
    "cft": cft,
    "cgd_without_attempt": cgd_without_attempt,
    "cgd_without_critique": cgd_without_critique,
}

REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "cgd": ("question", "attempt", "critique", "refinement"),
    "refined_only": ("question", "refinement"),
    "sft": ("question", "reference_solution"),
    "distilled_sft": ("question", "direct"),
    "cft": ("question", "attempt", "critique"),
    "cgd_without_attempt": ("question", "critique", "refinement"),
    "cgd_without_critique": ("question", "attempt", "refinement"),
}
"""Columns an arm reads; a record in which one of them is null or empty cannot become an example of that arm."""


def check_columns(arm: str, columns: Collection[str]) -> None:
    """Raise ValueError when records with these columns can never feed the arm."""
    missing = [name for name in REQUIRED_COLUMNS[arm] if name not in columns]
    if missing:
        remedy = "generate with generation.direct_answers=true" if "direct" in missing else "run the stage that writes it"
        raise ValueError(
            f"training.arm is {arm}, which reads the columns {', '.join(REQUIRED_COLUMNS[arm])}, but the records have no "
            f"{', '.join(missing)}; {remedy} or choose another arm"
        )
