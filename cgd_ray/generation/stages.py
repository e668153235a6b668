"""The two stages of the pipeline as Ray Data sees them: a table of rows in, the same rows with more columns out.

A stage lives in an actor with its engine. All rows of all calls in flight run at once, up to `requests_in_flight`; further rows wait
here, so a long answer never leaves a place in the engine empty. The rows of one call leave together and in order: when an actor dies,
Ray repeats the call and keeps the blocks it has already had from it, which is exact only when a call's output is one block in a fixed
order (and Ray's asynchronous map gathers a generator's output before it hands it on in any case). A row that cannot be processed gets
an `error`, and the others go on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cgd_ray.config import RoleConfig
from cgd_ray.generation.engine import EngineFactory, RequestError
from cgd_ray.generation.progress import COUNTS, Meter
from cgd_ray.generation.verdicts import parse_verdict
from cgd_ray.prompts import Message, Prompts
from cgd_ray.records import RECORD_SCHEMA, Stage, short_hash

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """What a stage actor is built from; crosses processes."""

    role: RoleConfig
    """The model and how it decodes."""
    prompts: Prompts
    """The wording."""
    fingerprints: Mapping[Stage, str]
    """Of the columns that this stage writes."""
    engine_factory: EngineFactory
    """Builds the engine in the actor."""
    report: Callable[[Mapping[str, int]], None] | None = None
    """Receives counts of finished turns, failed rows and generated tokens."""


class EngineStage:
    """What both stages share: the engine, its places, one turn of one row."""

    stages: tuple[Stage, ...] = ()

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec
        self.engine = spec.engine_factory(spec.role)
        self._places = asyncio.Semaphore(spec.role.placement.requests_in_flight)
        self._meter = Meter(spec.report)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Run all rows at once and return them in their order."""
        rows = await asyncio.gather(*[self._row(row) for row in batch.to_pylist()])
        self._meter.flush()
        return pa.Table.from_pylist(rows, schema=output_schema(batch.schema, self.stages))

    async def _row(self, row: Row) -> Row:
        """All turns of one row, in one place of the engine, so that a refinement follows its critique while the cache is warm."""
        async with self._places:
            for stage in self.stages:
                if row["error"] is None and row.get(stage) is None:
                    row = await self._guarded_turn(row, stage)
        return row

    async def _guarded_turn(self, row: Row, stage: Stage) -> Row:
        try:
            columns = await self._turn(row, stage)
        except RequestError as error:  # this row's own fault
            self._meter.add(failed=1)
            return {**row, "error": f"{stage}: {error}"}
        self._meter.add(**{COUNTS[stage]: 1, "tokens": columns[f"{stage}_tokens"]})
        return {**row, **columns}

    async def _turn(self, row: Row, stage: Stage) -> Row:
        spec = self._spec
        seed = turn_seed(spec.role.sampling.seed, row["record_id"], stage)
        generation = await self.engine.generate(self._messages(row, stage), spec.role.sampling, seed)
        return {
            stage: generation.text,
            f"{stage}_prompt_tokens": generation.prompt_tokens,
            f"{stage}_cached_tokens": generation.cached_tokens,
            f"{stage}_tokens": generation.num_tokens,
            f"{stage}_finish_reason": generation.finish_reason,
            f"{stage}_seed": seed,
            f"{stage}_fingerprint": spec.fingerprints[stage],
            **({"verdict": parse_verdict(generation.text)} if stage == "critique" else {}),
        }

    def _messages(self, row: Row, stage: Stage) -> Sequence[Message]:
        raise NotImplementedError


class AttemptStage(EngineStage):
    """x -> y': the model answers the problem alone."""

    stages = ("attempt",)

    def _messages(self, row: Row, stage: Stage) -> Sequence[Message]:
        return self._spec.prompts.solve_messages(row["question"], self._spec.prompts.student_system)


class CritiqueRefineStage(EngineStage):
    """(x, y') -> c, then, as the conversation's next turn on the same replica, (x, y', c) -> y^."""

    stages = ("critique", "refinement")

    def _messages(self, row: Row, stage: Stage) -> Sequence[Message]:
        if row.get("attempt") is None:
            raise RequestError("the row has no attempt to work on")
        if stage == "critique":
            return self._spec.prompts.critique_messages(row["question"], row["attempt"])
        return self._spec.prompts.refine_messages(row["question"], row["attempt"], row["critique"])


def output_schema(input_schema: pa.Schema, stages: Sequence[Stage]) -> pa.Schema:
    """The record's columns that came in or that these stages write, in the record's order."""
    prefixes = tuple(stages)
    return pa.schema(
        [
            field
            for field in RECORD_SCHEMA
            if field.name in input_schema.names or field.name.startswith(prefixes) or (field.name == "verdict" and "critique" in stages)
        ]
    )


def turn_seed(base_seed: int, record_id: str, stage: Stage) -> int:
    """The seed of one turn of one record: 31 bits, so that every engine and API takes it."""
    return int(short_hash(f"{base_seed}\x00{record_id}\x00{stage}")[:8], 16) >> 1
