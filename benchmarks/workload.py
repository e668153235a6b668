"""What the contestants of benchmarks/generation.py share: the rows, the lengths of the answers, the line between warm-up and measurement.

The first `warm_up` rows of a job go through all three calls before any other row begins, whichever the contestant: their end is when
every engine is up and has run, and the clock of the throughput starts there. Times are `time.time()`, so they compare across processes.
"""

import asyncio
import json
import math
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from cgd_ray.config import RoleConfig
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.records import PROBLEM_SCHEMA, TURNS, Turn
from cgd_ray.generation.stages import turn_seed
from cgd_ray.problems.work_list import make_work_list

TINYMATH = Path("examples/tinymath").absolute()
CONTEXT_LENGTH = 1024
POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one contestant uses the cores."""

    student_replicas: int = 1
    teacher_replicas: int = 1
    student_places: int = 32
    """Requests that one student engine holds at once."""
    teacher_places: int = 32
    """Requests that one teacher engine holds at once."""
    threads: int = 1
    """OpenMP threads of one engine, the pipeline's teacher excepted."""
    teacher_threads: int = 1
    """OpenMP threads of one teacher engine of the pipeline."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One contestant's task; crosses processes as JSON."""

    student: str
    """Model directory."""
    teacher: str
    """Model directory."""
    dummy: bool
    """Random weights instead of the directory's."""
    rows: int
    """Measured rows, a multiple of warm_up."""
    warm_up: int = 8
    """Rows before them; also the rows of one batch."""
    max_tokens: int = 64
    """Tokens of every answer, the median of them when lengths vary."""
    sigma: float = 0.0
    """Of the lognormal law of the answers' lengths; 0 gives all the same."""
    layout: Layout = Layout()
    directory: str
    """Receives what the contestant writes."""

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Job":
        """From JSON."""
        fields = json.loads(text)
        return cls(**{**fields, "layout": Layout(**fields["layout"])})

    def role(self, name: Literal["student", "teacher"]) -> RoleConfig:
        """The settings of one model in this project's words."""
        layout = self.layout
        if name == "student":
            replicas, places, threads = layout.student_replicas, layout.student_places, layout.threads
        else:
            replicas, places, threads = layout.teacher_replicas, layout.teacher_places, layout.teacher_threads
        return RoleConfig.model_validate(
            {
                "model": getattr(self, name),
                "context_length": CONTEXT_LENGTH,
                "sampling": {"max_tokens": self.max_tokens},
                "engine": {"load_format": "dummy"} if self.dummy else {},
                "placement": {
                    "min_replicas": replicas,
                    "max_replicas": replicas,
                    "requests_in_flight": places,
                    # Ray gives an actor as many OpenMP threads as it has whole CPUs, and one when it has less
                    "cpus_per_replica": threads if threads > 1 else 0.5,
                },
            }
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one contestant measured."""

    first_row: float
    """When the first row was finished."""
    warm: float
    """When the last row of the warm-up was finished."""
    end: float
    """When the last row was finished and, by those that write rows, written."""
    tokens: int
    """Generated for the measured rows."""


class WarmUp:
    """The line between warm-up and measurement, drawn by files in a directory that all processes see."""

    def __init__(self, directory: str, count: int) -> None:
        self._directory = Path(directory) / "warm_up"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._count = count
        self._is_over = False

    def begin_row(self, question: str) -> None:
        """Note that a row belongs to the warm-up; for one process."""
        with (self._directory / "questions").open("a", encoding="utf-8") as journal:
            journal.write(f"{json.dumps(question)}\n")

    def begun(self) -> frozenset[str]:
        """The questions of the rows that belong to the warm-up."""
        return frozenset(map(json.loads, (self._directory / "questions").read_text(encoding="utf-8").splitlines()))

    def finish_row(self) -> None:
        """Note that a row has left the last call; the times of the warm-up's first and last row are kept."""
        if self._is_over:
            return
        journal = self._directory / "rows"
        descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{time.time()}\n".encode())
        os.close(descriptor)
        self.is_over()

    def is_over(self) -> bool:
        """Whether measured rows may begin."""
        if not self._is_over:
            self._is_over = len(self._times()) >= self._count
        return self._is_over

    def wait(self) -> None:
        """Block until measured rows may begin."""
        while not self.is_over():
            time.sleep(POLL_S)

    async def wait_async(self) -> None:
        """The same in an event loop."""
        while not self.is_over():
            await asyncio.sleep(POLL_S)

    def outcome(self, end: float, tokens: int) -> Outcome:
        """The figures of a finished run."""
        times = self._times()
        return Outcome(first_row=times[0], warm=times[self._count - 1], end=end, tokens=tokens)

    def _times(self) -> list[float]:
        journal = self._directory / "rows"
        return [float(line) for line in journal.read_text(encoding="utf-8").splitlines()] if journal.exists() else []


def work_list(job: Job) -> pa.Table:
    """Warm-up and measured rows (WORK_SCHEMA), from the embedded training problems."""
    lines = (TINYMATH / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    if len(lines) < (wanted := job.warm_up + job.rows):
        raise ValueError(f"{job.rows} rows and {job.warm_up} of warm-up are more than the {len(lines)} embedded problems")
    problems = [{**json.loads(line), "error": None} for line in lines[:wanted]]
    return make_work_list(pa.Table.from_pylist(problems, schema=PROBLEM_SCHEMA), num_samples=1)


def tinymath_prompts() -> Prompts:
    """The embedded wording."""
    return load_prompts(str(TINYMATH / "prompts.yaml"))


def answer_tokens(job: Job, record_id: str, turn: Turn) -> int:
    """How many tokens one answer has."""
    return tokens_of_seed(job, turn_seed(0, record_id, turn))


def tokens_of_seed(job: Job, seed: int) -> int:
    """The same from the turn's seed: from an eighth to four times the median."""
    drawn = job.max_tokens * math.exp(random.Random(seed).gauss(0, job.sigma)) if job.sigma else job.max_tokens
    return round(min(4 * job.max_tokens, max(job.max_tokens / 8, drawn)))


def sampling_arguments(num_tokens: int) -> dict[str, Any]:
    """vLLM's SamplingParams for a greedy answer of exactly so many tokens."""
    return {"temperature": 0.0, "max_tokens": num_tokens, "ignore_eos": True}


def engine_sampling(num_tokens: int) -> Any:
    """The same as SamplingParams of this project's engine, whose answers are decoded at their end; needs vLLM."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(**sampling_arguments(num_tokens), detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)


def measured_tokens(job: Job, work: pa.Table) -> int:
    """Tokens that the measured rows have, whoever generates them."""
    ids = work["record_id"].to_pylist()[job.warm_up :]
    return sum(answer_tokens(job, record_id, turn) for record_id in ids for turn in TURNS)
