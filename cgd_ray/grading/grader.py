"""Grades answers against references: by the rules of equivalence/, and what takes algebra in worker processes that can be killed.

Why processes: math-verify can hang in spite of its own timeout (issue 65 there), needs a main thread for its alarm (55) and parses
differently in threads (22). One pair that hangs or eats memory costs its own verdict only. Most pairs are plain numbers, words and
equal expressions; they are decided here at once and start no process.
How to use: `with Grader(timeout_s=5) as grader: grader.grade([("\\boxed{4}", "4")])`.
"""

import logging
import os
import re
import resource
from collections.abc import Sequence
from concurrent.futures import TimeoutError as PairTimeout
from multiprocessing import get_context
from types import TracebackType

from pebble import ProcessExpired, ProcessPool

from cgd_ray.grading.equivalence import judge

WORKER_MEMORY_BYTES = 512 * 1024**2  # address space of one worker; with math-verify and sympy loaded it takes 70 MiB
SHORT_LENGTH = 300  # characters; a longer answer is read where it can be killed
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is no brace


class Grader:
    """A pool of workers that compare a text's boxed answer with a reference answer."""

    def __init__(self, timeout_s: float, num_workers: int | None = None) -> None:
        self._timeout_s = timeout_s
        self._pool = ProcessPool(
            max_workers=num_workers or min(8, os.cpu_count() or 1), initializer=_start_worker, context=get_context("spawn")
        )

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._pool.stop()
        self._pool.join()

    def grade(self, pairs: Sequence[tuple[str | None, str | None]]) -> list[bool | None]:
        """For each (text, reference answer): is the text's last boxed answer right?

        None where there is no text or no reference; False where nothing is boxed, or where comparing takes longer than the limit.
        """
        futures = {}
        verdicts: list[bool | None] = [None if text is None or reference is None else False for text, reference in pairs]
        for index, (text, reference) in enumerate(pairs):
            if text is None or reference is None or (answer := boxed_answer(text)) is None:
                continue
            answer, reference = _innermost(answer), _innermost(reference)
            verdicts[index] = _judged_at_once(answer, reference)
            if verdicts[index] is None:
                futures[index] = self._pool.schedule(_is_right, args=(answer, reference), timeout=self._timeout_s)
        for index, future in futures.items():
            try:
                verdicts[index] = future.result()
            except (PairTimeout, ProcessExpired, MemoryError, RecursionError):
                verdicts[index] = False
        return verdicts


def is_boxed(text: str) -> bool:
    r"""Does the text hold a `\boxed{...}` (or `\fbox`) answer at all?"""
    return "\\boxed" in text or "\\fbox" in text


def boxed_answer(text: str) -> str | None:
    r"""What the last `\boxed{...}` (or `\fbox`) of a text holds; None when nothing is boxed, or the last box is empty or never closed.

    Not left to math-verify, which makes one set of boxes that stand near each other, so that no answer that corrects itself was right,
    and which takes a number from the text around an empty box.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    rest = text[boxes[-1].end() :]
    if not rest.startswith("{"):  # \boxed 4
        return rest.partition("\n")[0].partition("$")[0].strip() or None
    depth = 0
    for brace in _BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return rest[1 : brace.start()].strip() or None
    return None


def _judged_at_once(answer: str, reference: str) -> bool | None:
    """What needs no algebra, for answers too short to take long; None for the others."""
    return judge(answer, reference).right if max(len(answer), len(reference)) <= SHORT_LENGTH else None


def _innermost(answer: str) -> str:
    while (boxed := boxed_answer(answer)) is not None:
        answer = boxed
    return answer


def _start_worker() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY_BYTES, WORKER_MEMORY_BYTES))
    import cgd_ray.grading.equivalence.algebra  # noqa: F401  (imported here so that the first pair's limit is not spent on importing)

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limits are off, at every pair


def _is_right(answer: str, reference: str) -> bool:
    from cgd_ray.grading.equivalence.algebra import equal_by_algebra

    try:
        return judge(answer, reference, algebra=equal_by_algebra).right is True
    except Exception:  # sympy raises whatever it meets in odd expressions; what cannot be compared is not right
        return False
