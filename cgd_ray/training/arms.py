"""What the student sees and what it learns to produce: one function per arm, all behind one signature.

An arm turns a record into a prompt and a target, or into None when the record lacks what it needs. Adding an arm is adding a function
and one entry in ARMS and REQUIRED_COLUMNS. How to use: `ARMS[training.arm](row, prompts)`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cgd_ray.prompts import Message, Prompts


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


def sft(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x -> the data set's own solution."""
    return ArmExample(messages=prompts.solve_messages(row["question"], prompts.student_system), target=row["reference_solution"])


def cft(row: Mapping[str, Any], prompts: Prompts) -> ArmExample:
    """x, y' -> c: the student learns to write critiques, under its own system message rather than the teacher's."""
    asked = [message for message in prompts.critique_messages(row["question"], row["attempt"]) if message.role != "system"]
    system = [] if prompts.student_system is None else [Message(role="system", content=prompts.student_system)]
    return ArmExample(messages=[*system, *asked], target=row["critique"])


ARMS: dict[str, Arm] = {"cgd": cgd, "refined_only": refined_only, "sft": sft, "cft": cft}

REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "cgd": ("question", "attempt", "critique", "refinement"),
    "refined_only": ("question", "refinement"),
    "sft": ("question", "reference_solution"),
    "cft": ("question", "attempt", "critique"),
}
"""Columns an arm reads; a record in which one of them is null or empty cannot become an example of that arm."""


def check_columns(arm: str, columns: Collection[str]) -> None:
    """Raise ValueError when records with these columns can never feed the arm."""
    missing = [name for name in REQUIRED_COLUMNS[arm] if name not in columns]
    if missing:
        raise ValueError(
            f"training.arm is {arm}, which reads the columns {', '.join(REQUIRED_COLUMNS[arm])}, but the records have no "
            f"{', '.join(missing)}; run the stage that writes it or choose another arm"
        )
