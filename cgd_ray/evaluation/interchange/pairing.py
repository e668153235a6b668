"""The same problems in two evaluations, so that what differs between their answers is the models'.

How to use: `pairs = paired(scores_of(a), scores_of(b))`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from cgd_ray.data.records import short_hash
from cgd_ray.evaluation.interchange.neutral import Evaluation, Problem

SHOWN = 300
"""Characters of a question or an answer that are kept for a person to recognise it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What is kept of a problem's answers: all problems of a benchmark are held at once."""

    id: str
    question: str | None
    """Its beginning."""
    question_hash: str | None
    reference_answer: str | None
    """Its beginning; a reference may be a whole solution."""
    reference_hash: str | None
    correct: tuple[bool, ...]
    extracted: tuple[str | None, ...]
    num_ungraded: int

    @property
    def rate(self) -> float:
        """Share of the answers that are right."""
        return fmean(self.correct)


def scores_of(evaluation: Evaluation) -> dict[str, Scores]:
    """By problem id. Raises ValueError where an id comes twice, where problems have unequally many answers, or there is none."""
    found: dict[str, Scores] = {}
    for problem in evaluation.problems():
        scores = _scores(problem)
        if problem.id in found:
            raise ValueError(f"{evaluation.path} has the problem {problem.id[:80]!r} twice; take one out")
        first = next(iter(found.values()), scores)
        if len(scores.correct) != len(first.correct):
            raise ValueError(
                f"{evaluation.path} has {len(scores.correct)} answers to the problem {problem.id[:80]!r} and {len(first.correct)} to "
                f"{first.id[:80]!r}; evaluate all alike"
            )
        found[problem.id] = scores
    if not found:
        raise ValueError(f"{evaluation.path} has no problems; evaluate again")
    return found


def paired(scores_a: Mapping[str, Scores], scores_b: Mapping[str, Scores]) -> list[tuple[Scores, Scores]]:
    """Problems with one id and the same question, or those with the same question where these are more, in the order of the first's ids.

    An id may be a mere place in a file, so it pairs only what asks the same; two tools name one problem differently.
    """
    by_id = [(scores_a[name], scores_b[name]) for name in sorted(scores_a.keys() & scores_b.keys())]
    by_id = [(a, b) for a, b in by_id if None in (a.question_hash, b.question_hash) or a.question_hash == b.question_hash]
    asked_a, asked_b = _by_question(scores_a), _by_question(scores_b)
    by_question = sorted(((asked_a[key], asked_b[key]) for key in asked_a.keys() & asked_b.keys()), key=lambda pair: pair[0].id)
    return by_question if len(by_question) > len(by_id) else by_id


def _by_question(scores: Mapping[str, Scores]) -> dict[tuple[str, int], Scores]:
    """By the question's hash, and for a question that comes several times by which of them it is, in the order of ids."""
    seen: Counter[str] = Counter()
    found = {}
    for name in sorted(scores):
        if (question := scores[name].question_hash) is not None:
            found[question, seen[question]] = scores[name]
            seen[question] += 1
    return found


def _scores(problem: Problem) -> Scores:
    return Scores(
        id=problem.id,
        question=_cut(problem.question),
        question_hash=_hash(problem.question),
        reference_answer=_cut(problem.reference_answer),
        reference_hash=_hash(problem.reference_answer),
        correct=tuple(answer.correct for answer in problem.answers),
        extracted=tuple(_cut(answer.extracted) for answer in problem.answers),
        num_ungraded=sum(not answer.graded for answer in problem.answers),
    )


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:SHOWN]


def _hash(text: str | None) -> str | None:
    """Of the text whose spaces and line ends are all one, since tools differ in those."""
    return None if text is None else short_hash(" ".join(text.split()))
