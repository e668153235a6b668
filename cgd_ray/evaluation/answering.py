"""How an evaluation's rows are answered: the model takes the next turn of the conversation that each of them has.

It is the student's stage of the generation but for that: what is asked need not be a problem alone.
How to use: `run_attempts(role, prompts, asked, out, on_progress, engine_factory, AnsweringStage)`, `asked` of papers.ASKED_SCHEMA.
"""

from collections.abc import Sequence

from cgd_ray.data.prompts import Message
from cgd_ray.data.records import Turn
from cgd_ray.evaluation.benchmarks.loading import MESSAGES
from cgd_ray.generation.stages import AttemptStage, Row


class AnsweringStage(AttemptStage):
    """A conversation -> its next turn, in the attempt's columns."""

    def _messages(self, row: Row, turn: Turn) -> Sequence[Message]:
        return [Message(**message) for message in row[MESSAGES]]
