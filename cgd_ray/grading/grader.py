"""Grades answers: what takes no time here, what may hang or eat memory in worker processes that can be killed.

Why processes: math-verify can hang in spite of its own timeout (issue 65 there), needs a main thread for its alarm (55) and parses
differently in threads (22); a checker of instructions is a regular expression on text that a model wrote; a user's function may do
anything. One answer that hangs or eats memory costs its own verdict only. The processes start when the first answer needs one.
How to use: `with Grader(timeout_s=5) as grader: grader.grade([("\\boxed{4}", "4")])`, or `grader_named(...)` of graders.py and
`grader.verdicts([Answer(text="\\boxed{4}", reference="4")])`.
"""

import os
import resource
import signal
from collections.abc import Sequence
from concurrent.futures import TimeoutError as PairTimeout
from multiprocessing import get_context
from types import TracebackType

from pebble import ProcessExpired, ProcessPool

from cgd_ray.grading.boxed_math import BoxedMath
from cgd_ray.grading.verdict import Answer, Kind, Ungradable, Verdict

WORKER_MEMORY_BYTES = 512 * 1024**2  # of one worker's own; with math-verify and sympy loaded it takes 60 MiB
STRICT = BoxedMath(name="boxed-math-strict", ways=("box",))
"""What decides which records are trained on: the answer in a box, or none."""


class Grader:
    """A kind of grading with a pool of workers. It crosses processes as kind and limits, and starts workers of its own there."""

    def __init__(self, timeout_s: float, num_workers: int | None = None, kind: Kind = STRICT) -> None:
        """`timeout_s` is for one answer; `num_workers` are processes, null for as many as this node has CPUs for."""
        self.kind, self._timeout_s, self._num_workers = kind, timeout_s, num_workers
        workers = num_workers or min(8, os.cpu_count() or 1)
        self._pool = ProcessPool(max_workers=workers, initializer=_start_worker, initargs=(kind,), context=get_context("spawn"))

    def __reduce__(self) -> tuple[type["Grader"], tuple[float, int | None, Kind]]:
        return Grader, (self._timeout_s, self._num_workers, self.kind)

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._pool.stop()
        self._pool.join()

    def verdicts(self, answers: Sequence[Answer]) -> list[Verdict]:
        """A verdict on each answer; False where it takes longer than the limit, or more memory. Raises Ungradable."""
        futures, verdicts = {}, list[Verdict | None]()
        for index, answer in enumerate(answers):
            verdicts.append(self.kind.at_once(answer))
            if verdicts[index] is None:
                futures[index] = self._pool.schedule(_decided, args=(answer,), timeout=self._timeout_s)
        for index, future in futures.items():
            try:
                verdicts[index] = future.result()
            except (PairTimeout, ProcessExpired, MemoryError, RecursionError) as error:
                verdicts[index] = Verdict(correct=False, extracted=None, reason=_died_of(error))
        return [verdict for verdict in verdicts if verdict is not None]

    def grade(self, pairs: Sequence[tuple[str | None, str | None]]) -> list[bool | None]:
        """For each (text, reference answer): is the text's answer right? None where there is no text or no reference."""
        return [verdict.correct for verdict in self.verdicts([Answer(text=text, reference=reference) for text, reference in pairs])]


def _died_of(error: BaseException) -> str:
    if isinstance(error, PairTimeout):
        return "timeout"
    return "too much memory" if isinstance(error, MemoryError) else "its process died"


_worker_kind: Kind | None = None
_worker_fault: str | None = None


def _start_worker(kind: Kind) -> None:
    """In a new worker: the limits, and what the kind needs, whose absence is told to whoever asks for a verdict."""
    global _worker_kind, _worker_fault
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler waits for the end of a long multiplication
    resource.setrlimit(resource.RLIMIT_DATA, (WORKER_MEMORY_BYTES, WORKER_MEMORY_BYTES))
    try:
        kind.prepare()
    except Exception as error:  # else the pool breaks, without the reason
        _worker_fault = f"grader {kind.name} cannot begin: {type(error).__name__}: {' '.join(str(error).split())}"
    _worker_kind = kind


def _decided(answer: Answer) -> Verdict:
    assert _worker_kind is not None, "it is set when the worker starts"
    if _worker_fault is not None:
        raise Ungradable(_worker_fault)
    return _worker_kind.decide(answer)
