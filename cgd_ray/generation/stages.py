"""What a stage of the pipeline is, as Ray Data sees it: a table of rows in, the same rows with more columns out; and the student's stage.

A stage lives in an actor with its engine. All rows of all calls in flight run at once, up to `requests_in_flight`; further rows wait
here, so a long answer never leaves a place in the engine empty. The rows of one call leave together and in order: when an actor dies,
Ray repeats the call and keeps the blocks it has already had from it, which is exact only when a call's output is one block in a fixed
order (and Ray's asynchronous map gathers a generator's output before it hands it on in any case). A row that cannot be processed gets
an `error`, and the others go on.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cgd_ray.config import CutAttempts, RoleConfig, SamplingConfig
from cgd_ray.data.prompts import SIGN_OF_LIFE, Message, Prompts
from cgd_ray.data.records import RECORD_SCHEMA, TURNS, TURNS_OF_ROLE, Turn, columns_of, short_hash, unusable
from cgd_ray.engines.engine import EngineFactory, Generation, Load, RequestError, RunEndedError
from cgd_ray.engines.groups import check_group
from cgd_ray.engines.thinking import answered
from cgd_ray.generation.draining import GRACE_S, end_run, finished_before_stop
from cgd_ray.generation.failures import Canary, Reasons
from cgd_ray.generation.places import Places, Pressure
from cgd_ray.generation.progress import COUNTS, Meter
from cgd_ray.generation.starting import start_engine
from cgd_ray.generation.suspects import MOST_DEATHS, suspects_of_this_actor

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """What a stage actor is built from; crosses processes."""

    role: RoleConfig
    """The model and how it decodes."""
    prompts: Prompts
    """The wording."""
    fingerprints: Mapping[Turn, str]
    """Of the columns that this stage writes."""
    engine_factory: EngineFactory
    """Builds the engine in the actor."""
    cut_attempts: CutAttempts = "use"
    """Whether an attempt that was cut at its token limit gets further turns."""
    refine_attempts: int = 1
    """How often a refinement that grades wrong is asked for."""
    direct: bool = False
    """Whether the teacher also answers the problem alone."""
    structured_verdict: bool = False
    """Whether the engine chooses the conclusion of a critique."""
    suspects: Path | None = None
    """Directory in which the actors of a run note which rows are in their engines."""
    stop_flag: Path | None = None
    """File that ends the run early once it exists; empty when SIGTERM set it, else with an engine's reason."""
    report: Callable[[Mapping[str, int]], None] | None = None
    """Receives counts of finished turns and rows, failed and unusable ones, generated tokens."""
    sample: Callable[[Row], None] | None = None
    """Receives the rows that the teacher has finished, and keeps what it wants of them."""


class EngineStage(ABC):
    """What all stages share: the engine, its places, one turn of one row."""

    role: str = ""
    turns: tuple[Turn, ...] = ()

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec
        self._suspects = suspects_of_this_actor(spec.suspects, self.role)
        self._meter = Meter(spec.report, self.role)  # before the engine, whose start is part of its cost
        if spec.role.placement.nodes_per_replica > 1:
            check_group(self.role, spec.role.placement)
        self._pressure = Pressure(most=spec.role.placement.requests_in_flight)
        self.engine = start_engine(self.role, spec.role, spec.engine_factory, self._suspects, self._observe, spec.stop_flag)
        self._canary, self._reasons = Canary(self._sign_of_life), Reasons()
        self._places = Places(self._pressure.places)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Run all rows at once and return them in their order; when the run is stopped, those that are finished."""
        tasks = [asyncio.ensure_future(self._counted_row(row)) for row in batch.to_pylist()]
        api = self._spec.role.api
        ended_grace_s = GRACE_S if api is None else api.request_timeout_s  # answers on their way are being paid for
        finished = await finished_before_stop(tasks, self._spec.stop_flag, ended_grace_s=ended_grace_s)
        rows = [row for row in finished if row is not None]
        self._meter.flush()
        return pa.Table.from_pylist(rows, schema=output_schema(batch.schema, self._turns()))

    def _observe(self, load: Load) -> None:
        """Of the engine's own thread."""
        self._meter.load(load)
        self._pressure(load)

    def close(self) -> None:
        """Free what the engine holds; no row may be in it. An actor that ends need not."""
        self.engine.close()

    def _is_ended(self) -> bool:
        return self._spec.stop_flag is not None and self._spec.stop_flag.exists()

    async def _counted_row(self, row: Row) -> Row | None:
        done = await self._row(row)
        if done is not None:
            self._meter.row(is_unusable=done["error"] is None and any(done.get(turn) is None for turn in self._turns()))
        return done

    async def _row(self, row: Row) -> Row | None:
        """All turns of one row, in one place of the engine, so that a refinement follows its critique while the cache is warm.

        None for a row that had not begun, or could not go on, when the run was ended.
        """
        turns = self._turns_left(row)
        if row["error"] is not None or not turns:
            return row
        if self._is_ended():  # by engines that died again and again, perhaps, which is no row's fault
            return None
        name = row["record_id"]
        if self._suspects.deaths(name) >= MOST_DEATHS:
            return self._failed(row, turns[0], f"{MOST_DEATHS} engines died with this row inside, the last time alone; it is set aside")
        self._places.resize(self._pressure.places)
        async with self._places.taken(self._suspects.places(name, self._spec.role.placement.requests_in_flight)):
            if self._is_ended():
                return None
            with self._suspects.entered(name):
                while turns:
                    turn = turns[0]
                    try:
                        row = await self._turn(row, turn)
                        self._meter.turn(COUNTS[turn])
                        turns = self._turns_left(row)
                    except RunEndedError as error:  # no row's fault
                        end_run(self._spec.stop_flag, error)
                        return None
                    except OSError:  # a full disk and the like: no row's fault, and the same command goes on when it is mended
                        raise
                    except Exception as error:
                        if (refusal := await self._canary.refusal()) is not None:
                            end_run(self._spec.stop_flag, RunEndedError(f"{self.role}: {refusal}"))
                            return None
                        return self._failed(row, turn, self._reasons.of(error))
        return row

    def _turns(self) -> Sequence[Turn]:
        """The stages of this actor that the run asks for."""
        return self.turns

    def _turns_left(self, row: Row) -> list[Turn]:
        """What the row still gets; nothing where what it has cannot be used, so that further turns would be for nothing."""
        made = [turn for turn in TURNS if row.get(turn) is not None]
        return [] if unusable(row, made, self._spec.cut_attempts) else [turn for turn in self._turns() if row.get(turn) is None]

    def _failed(self, row: Row, turn: Turn, reason: str) -> Row:
        self._meter.fail(reason)
        return {**row, "error": f"{turn}: {reason}"}

    async def _turn(self, row: Row, turn: Turn) -> Row:
        return await self._asked(row, turn, turn_seed(self._spec.role.sampling.seed, row["record_id"], turn))

    async def _asked(self, row: Row, turn: Turn, seed: int) -> Row:
        """The row with the columns of one turn."""
        messages = self._messages(row, turn)
        generation = await self._generate(messages, self._spec.role.sampling, seed)
        self._canary.lives()
        self._suspects.progressed()
        self._meter.tokens(generation)
        text, thinking, finish_reason = answered(generation, self.engine.chat, self._spec.role, messages)
        return {
            **row,
            turn: text,
            f"{turn}_thinking": thinking,
            f"{turn}_prompt_tokens": generation.prompt_tokens,
            f"{turn}_cached_tokens": generation.cached_tokens,
            f"{turn}_tokens": generation.num_tokens,
            f"{turn}_finish_reason": finish_reason,
            f"{turn}_seed": seed if self._spec.role.seeds_requests else None,
            f"{turn}_fingerprint": self._spec.fingerprints[turn],
        }

    async def _sign_of_life(self) -> Generation:
        """Ask something that is no row's with the role's settings; of an engine of our own a token is enough."""
        role = self._spec.role
        sampling = role.sampling if role.api is not None else role.sampling.model_copy(update={"max_tokens": 1})
        return await self._generate([Message(role="user", content=SIGN_OF_LIFE)], sampling, role.sampling.seed)

    async def _generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        return await self._in_time(self.engine.generate(messages, sampling, seed))

    async def _in_time(self, answer: Awaitable[Generation]) -> Generation:
        role = self._spec.role
        limit = None if role.api is not None else role.request_timeout_s  # an endpoint's client has limits of its own, and costs money
        try:
            async with asyncio.timeout(limit):
                return await answer
        except TimeoutError:
            raise RequestError(f"no answer within request_timeout_s {limit:g}; raise it, or lower sampling.max_tokens") from None

    @abstractmethod
    def _messages(self, row: Row, turn: Turn) -> Sequence[Message]:
        """The conversation that a turn continues."""


class AttemptStage(EngineStage):
    """x -> y': the model answers the problem alone."""

    role = "student"
    turns = TURNS_OF_ROLE[role]

    def _messages(self, row: Row, turn: Turn) -> Sequence[Message]:
        return self._spec.prompts.solve_messages(row["question"], self._spec.prompts.student_system)


def output_schema(input_schema: pa.Schema, turns: Sequence[Turn]) -> pa.Schema:
    """The record's columns that came in or that these stages write, in the record's order."""
    made = {name for turn in turns for name in columns_of(turn)}
    return pa.schema([field for field in RECORD_SCHEMA if field.name in made or field.name in input_schema.names])


def turn_seed(base_seed: int, record_id: str, turn: Turn, number: int = 1) -> int:
    """The seed of one turn of one record, and of its repetitions: 31 bits, so that every engine and API takes it."""
    repetition = "" if number == 1 else f"\x00{number}"
    return int(short_hash(f"{base_seed}\x00{record_id}\x00{turn}{repetition}")[:8], 16) >> 1
