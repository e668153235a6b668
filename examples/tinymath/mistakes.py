"""Flawed attempts and the critiques of attempts.

Errors come in four kinds: a *misconception* (a kind's usual wrong rule, held by whoever solves), a *lapse* (some other wrong rule), a
*slip* (right rule, wrong result) and a *missed* step. What follows an error is computed from the flawed value, as a person would.
A critique quotes the attempt's lines one by one, stops at the first wrong one, puts it right, says why, and concludes: to quote first
makes the verdict a judgement of the text just written, which a tiny model learns; to recompute first did not teach it to compare.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass

from examples.tinymath.kinds import KINDS
from examples.tinymath.problems import Problem, Step, write_solution

STUDENT_MISCONCEPTIONS = ("half", "third", "times_as_many", "dozen", "inverse_more", "inverse_fewer")
"""The kinds of step of which the committed student holds the wrong rule."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A solution that may be flawed."""

    text: str
    error_index: int | None
    """Index of the first wrong step; null when there is none."""
    error_kind: str | None
    """misconception, lapse, slip or missed; null when there is none."""


@dataclass(frozen=True, kw_only=True)
class Solver:
    """Whoever makes attempts: which wrong rules are held, and how careless the work is."""

    misconceptions: Collection[str] = ()
    """Kinds of step done by the wrong rule."""
    hold_probability: float = 1.0
    """How often a held wrong rule is really followed, per step."""
    lapse_probability: float = 0.0
    slip_probability: float = 0.0
    missed_probability: float = 0.0

    def attempt(self, problem: Problem, rng: random.Random) -> Attempt:
        """Solve a problem in this solver's way."""
        lines, v, first = [], problem.start, None
        for index, step in enumerate(problem.steps):
            error, line, v = self._solve_step(step, v, rng)
            if line is not None:
                lines.append(line)
            if error is not None and first is None:
                first = (index, error)
        text = write_solution(lines, v)
        return Attempt(text=text, error_index=first[0] if first else None, error_kind=first[1] if first else None)

    def _solve_step(self, step: Step, v: int, rng: random.Random) -> tuple[str | None, str | None, int]:
        """Error kind, line and new running quantity of one step."""
        kind = KINDS[step.kind]
        if step.kind in self.misconceptions and rng.random() < self.hold_probability:
            computation = kind.wrong[0](v, step.k, step.n)
            return "misconception", step.line(computation), computation[1]
        draw = rng.random()
        if draw < self.lapse_probability:
            computation = rng.choice(kind.wrong)(v, step.k, step.n)
            return "lapse", step.line(computation), computation[1]
        if draw < self.lapse_probability + self.missed_probability:
            return "missed", None, v
        text, result = step.compute(v)
        if draw < self.lapse_probability + self.missed_probability + self.slip_probability:
            slipped = max(0, result + rng.choice((-10, -2, -1, 1, 2, 10)))
            if slipped != result:
                return "slip", step.line((f"{text.rpartition('=')[0]}={slipped}", slipped)), slipped
        return None, step.line((text, result)), result


STUDENT = Solver(misconceptions=STUDENT_MISCONCEPTIONS, hold_probability=0.85)
"""The solver whose solutions the student is pre-trained on."""


def varied_solver(rng: random.Random) -> Solver:
    """One of the many solvers whose attempts a teacher learns to judge: careful, careless, or with misconceptions of its own."""
    draw = rng.random()
    if draw < 0.3:
        return Solver()
    if draw < 0.55:
        return Solver(lapse_probability=0.12, slip_probability=0.2, missed_probability=0.06)
    held = [kind for kind in KINDS if rng.random() < 0.35]
    return Solver(misconceptions=held, slip_probability=0.03, missed_probability=0.01)


def write_critique(problem: Problem, attempt: str) -> str:
    """The critique of an attempt's text, whoever wrote it; the last line is its conclusion."""
    written = attempt.split("\n")
    v, lines = problem.start, list[str]()
    for index, step in enumerate(problem.steps):
        computation = step.compute(v)
        line, v = step.line(computation), computation[1]
        theirs = written[index] if index < len(written) else ""
        if theirs != line:
            return "\n".join([*lines, *_objection(index, step, line, theirs), "Conclusion: wrong"])
        lines.append(f"{line} ok")
    if written[len(problem.steps) :] != [f"\\boxed{{{problem.answer}}}"]:
        return "\n".join([*lines, f"The answer is {problem.answer}.", "Conclusion: wrong"])
    return "\n".join([*lines, "Conclusion: right"])


def _objection(index: int, step: Step, line: str, theirs: str) -> list[str]:
    """The attempt's line as it stands, the right computation, and why."""
    right, wrong = line.partition(": ")[2], theirs.partition(": ")[2]
    place = f"Step {index + 1} is wrong:"
    if not theirs.startswith(f"{step.key}: "):
        return [f"{step.key}: missing, {right}", f"{place} it is missing."]
    if right.rpartition("=")[0] == wrong.rpartition("=")[0]:
        return [f"{theirs} no, {right}", f"{place} it is a slip."]
    return [f"{theirs} no, {right}", f"{place} {KINDS[step.kind].meaning.format(k=step.k, n=step.n)}."]
