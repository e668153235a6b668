"""The teacher's stage: critique and refinement of an attempt in one conversation, and the direct answer when a run asks for it.

How to use: as a stage of generation/dataflow.py, `(CritiqueRefineStage, spec)`.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from cgd_ray.data.prompts import Message
from cgd_ray.data.records import TURNS_OF_ROLE, Turn
from cgd_ray.engines.engine import Concluding, Generation, RequestError
from cgd_ray.engines.fitting import fit_attempt
from cgd_ray.generation.stages import EngineStage, Row, StageSpec, turn_seed
from cgd_ray.generation.teacher.concluding import CHOICES, concluded
from cgd_ray.grading.grader import Grader
from cgd_ray.selection.verdicts import parse_verdict

REFINEMENT_TOKENS = ("refinement_prompt_tokens", "refinement_cached_tokens", "refinement_tokens")
GRADING_TIMEOUT_S = 5.0  # of one refinement, before it counts as wrong and is asked for again


class CritiqueRefineStage(EngineStage):
    """(x, y') -> c, then, as the conversation's next turn on the same replica, (x, y', c) -> y^; when asked for, x -> a direct answer."""

    role = "teacher"
    turns = TURNS_OF_ROLE[role]

    def __init__(self, spec: StageSpec) -> None:
        super().__init__(spec)
        self._grader = Grader(timeout_s=GRADING_TIMEOUT_S, num_workers=1) if spec.refine_attempts > 1 else None

    def close(self) -> None:
        """Free what the engine holds, and the grader."""
        super().close()
        if self._grader is not None:
            self._grader.close()

    async def _counted_row(self, row: Row) -> Row | None:
        done = await super()._counted_row(row)
        if done is not None and self._spec.sample is not None:
            self._spec.sample(done)
        return done

    def _turns(self) -> Sequence[Turn]:
        return self.turns if self._spec.direct else self.turns[:2]

    async def _turn(self, row: Row, turn: Turn) -> Row:
        if turn == "direct":
            return await super()._turn(row, turn)
        if row.get("attempt") is None:
            raise RequestError("the row has no attempt to work on")
        if turn == "critique":
            row = await super()._turn(row, turn)
            if self._spec.structured_verdict:
                row = await concluded(partial(self._choose, self._messages(row, turn)), row)
            return {**row, "verdict": parse_verdict(row["critique"])}
        return await self._refined(row)

    async def _choose(self, messages: Sequence[Message], beginning: str) -> Generation:
        assert isinstance(self.engine, Concluding), "the config refuses endpoints"
        choice = await self._in_time(self.engine.conclude(messages, beginning, CHOICES))
        self._meter.tokens(choice)
        return choice

    async def _refined(self, row: Row) -> Row:
        """The row with the last of its refinements and the tokens of all; one that cannot be made leaves the one before it."""
        row = {**await super()._turn(row, "refinement"), "num_refinements": 1}
        for number in range(2, self._spec.refine_attempts + 1):
            if not await self._is_wrong(row):
                break
            seed = turn_seed(self._spec.role.sampling.seed, row["record_id"], "refinement", number)
            try:
                again = await self._asked(row, "refinement", seed)
            except RequestError:
                break
            row = {**again, **{name: row[name] + again[name] for name in REFINEMENT_TOKENS}, "num_refinements": number}
        return row

    async def _is_wrong(self, row: Row) -> bool:
        assert self._grader is not None, "there is one when refinements are asked for more than once"
        pair = (row["refinement"], row["reference_answer"])
        (grade,) = await asyncio.to_thread(self._grader.grade, [pair])
        return grade is False

    def _messages(self, row: Row, turn: Turn) -> Sequence[Message]:
        prompts, question = self._spec.prompts, row["question"]
        if turn == "direct":
            return prompts.solve_messages(question, prompts.teacher_system)
        # one cut for both turns, so that the critique never speaks of what the refinement is not shown
        attempt = fit_attempt(
            self.engine.chat, self._spec.role, row["attempt"], lambda shown: prompts.refine_messages(question, shown, critique="")
        )
        if turn == "critique":
            return prompts.critique_messages(question, attempt)
        return prompts.refine_messages(question, attempt, row["critique"])
