"""Grades answers against references with math-verify, in worker processes that can be killed.

Why processes: math-verify can hang in spite of its own timeout (issue 65 there), needs a main thread for its alarm (55) and parses
differently in threads (22). One pair that hangs or eats memory costs its own verdict only.
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

WORKER_MEMORY_BYTES = 2 * 1024**3  # address space of one worker; sympy alone maps about half a GiB
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
        for index, (text, reference) in enumerate(pairs):
            if text is not None and reference is not None and (answer := boxed_answer(text)) is not None:
                futures[index] = self._pool.schedule(_is_right, args=(answer, reference), timeout=self._timeout_s)
        verdicts: list[bool | None] = [None if text is None or reference is None else False for text, reference in pairs]
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


def _start_worker() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY_BYTES, WORKER_MEMORY_BYTES))
    import math_verify  # noqa: F401  (imported here so that the first pair's limit is not spent on importing)

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limits are off, at every pair


def _is_right(boxed: str, reference: str) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    # Our own limit kills the process, so math-verify's alarm-based ones are off.
    gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
    answer = parse(
        f"\\boxed{{{boxed}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()],
        parsing_timeout=None,
    )
    return bool(verify(gold, answer, timeout_seconds=None))
