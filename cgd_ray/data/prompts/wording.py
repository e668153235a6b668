"""Every word that is sent to a model, for every role; nothing else in the project knows wording.

A set for a family of models, or a YAML file, overrides any of the templates by name (loading.py). Data is put in place of {question},
{attempt} and {critique} in one pass, so braces inside data stay data. How to use: `prompts.solve_messages(question, system)`.
"""

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]
Wording = Literal["solve", "choose", "follow"]
"""Templates for a problem alone."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


SIGN_OF_LIFE = "Say yes."
"""What an engine or an endpoint that leaves a row unanswered is asked to see whether it answers anything; its answer is not used."""

CONCLUSION = "Conclusion:"
"""What the last line of a critique begins with, as the template asks for it."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The templates. The reference answer never occurs in any of them."""

    student_system: str | None = None
    """System message of the student, in generation, training and evaluation alike; null sends none."""
    teacher_system: str | None = None
    """System message of the teacher; null sends none."""
    solve: str = "{question}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    """What a model is asked at inference: the problem alone. Fields: question."""
    choose: str = "{question}\n\nPlease reason step by step, and put the letter of the right option within \\boxed{}."
    """What a model is asked in benchmarks of multiple choice, whose options are part of the question. Fields: question."""
    follow: str = "{question}"
    """What a model is asked in benchmarks of instructions, which say themselves what an answer has to be. Fields: question."""
    critique: str = (
        "You are given a problem and a solution attempt. Review the attempt step by step. Name the first mistake if there is one, "
        "explain why it is wrong and how to correct it.\n\nProblem:\n{question}\n\nAttempt:\n{attempt}\n\n"
        "End your review with exactly one line, either 'Conclusion: right' or 'Conclusion: wrong'."
    )
    """The teacher's first turn. Fields: question, attempt."""
    refine: str = (
        "Now write the improved solution to the problem, complete and self-contained, as if you solved it from the beginning. Do not "
        "mention the attempt or the review. Reason step by step, and put your final answer within \\boxed{}."
    )
    """The teacher's next turn, after its own critique. No fields."""
    revise: str = (
        "Here is a review of your solution:\n\n{critique}\n\nWrite the improved solution, complete and self-contained. Reason step "
        "by step, and put your final answer within \\boxed{}."
    )
    """The student's second turn in CGD training, after its own attempt. Fields: critique."""
    revise_without_attempt: str = (
        "{question}\n\nHere is a review of an earlier solution:\n\n{critique}\n\nWrite a better solution, complete and self-contained. "
        "Reason step by step, and put your final answer within \\boxed{}."
    )
    """What the student is asked in the arm cgd_without_attempt, in one turn. Fields: question, critique."""
    revise_without_critique: str = (
        "Write an improved solution, complete and self-contained. Reason step by step, and put your final answer within \\boxed{}."
    )
    """The student's second turn in the arm cgd_without_critique, after its own attempt. No fields."""
    generic_critique: str = (
        "Read the problem again and make sure that every condition in it is used. Check each step for slips in arithmetic and in logic, "
        "and each formula for the assumptions it needs. Verify that the final answer is what the problem asks for."
    )
    """What takes the critique's place with training.critiques=generic: advice that fits any problem, without a verdict. No fields."""

    def asked(self, wording: Wording, question: str) -> str:
        """What a benchmark's problem is as a user's message."""
        return _fill(getattr(self, wording), question=question)

    def solve_messages(self, question: str, system: str | None) -> list[Message]:
        """Prompt-only conversation: the problem alone."""
        return [*_system(system), Message(role="user", content=_fill(self.solve, question=question))]

    def critique_messages(self, question: str, attempt: str) -> list[Message]:
        """What the teacher critiques."""
        return [*_system(self.teacher_system), Message(role="user", content=_fill(self.critique, question=question, attempt=attempt))]

    def refine_messages(self, question: str, attempt: str, critique: str) -> list[Message]:
        """The critique's conversation with one more turn, so that its KV cache is a prefix of this prompt."""
        return [
            *self.critique_messages(question, attempt),
            Message(role="assistant", content=critique),
            Message(role="user", content=self.refine),
        ]

    def revise_messages(self, question: str, attempt: str, critique: str) -> list[Message]:
        """The student's view in CGD training: problem, its own flawed attempt, the critique."""
        return [
            *self.solve_messages(question, self.student_system),
            Message(role="assistant", content=attempt),
            Message(role="user", content=_fill(self.revise, critique=critique)),
        ]

    def revise_without_attempt_messages(self, question: str, critique: str) -> list[Message]:
        """Problem and critique in one turn; the attempt that the critique is about stays unseen."""
        content = _fill(self.revise_without_attempt, question=question, critique=critique)
        return [*_system(self.student_system), Message(role="user", content=content)]

    def revise_without_critique_messages(self, question: str, attempt: str) -> list[Message]:
        """Problem and the student's own attempt, then the request to improve it."""
        return [
            *self.solve_messages(question, self.student_system),
            Message(role="assistant", content=attempt),
            Message(role="user", content=self.revise_without_critique),
        ]


def _system(text: str | None) -> list[Message]:
    return [] if text is None else [Message(role="system", content=text)]


def _fill(template: str, **values: str) -> str:
    pattern = "|".join(re.escape(f"{{{name}}}") for name in values)
    return re.sub(pattern, lambda found: values[found.group()[1:-1]], template)
