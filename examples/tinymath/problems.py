"""Makes word problems: chains of 2 to 4 steps over small whole numbers, with worked reference solutions.

Every problem is a pure function of a seed, so corpora need no storage; splits use disjoint seeds, and a problem whose question also
occurs in another split is refused by the hash of its text. `python -m examples.tinymath.problems` writes data/{train,heldout}.jsonl.
"""

import hashlib
import json
import logging
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.tinymath.kinds import KINDS, Computation, Kind

logger = logging.getLogger(__name__)

DATA_DIRECTORY = Path(__file__).parent / "data"
SPLIT_SEEDS = {"heldout": 1, "train": 2, "corpus": 3}
SPLIT_SIZES = {"heldout": 400, "train": 1024}
LARGEST = 72  # of every quantity on the right path: a tiny model learns these tables, the work is in the language

_PEOPLE = (
    ("Tom", "he"),
    ("Ben", "he"),
    ("Max", "he"),
    ("Leo", "he"),
    ("Ali", "he"),
    ("Ann", "she"),
    ("Mia", "she"),
    ("Eva", "she"),
    ("Zoe", "she"),
    ("Kim", "she"),
)
_THINGS = ("apples", "coins", "books", "cards", "shells", "stamps", "eggs", "pens", "beads", "cups")
_STARTS = ("{name} has {v} {things}.", "There are {v} {things} in the bag of {name}.", "{name} starts with {v} {things}.")
_ENDS = ("How many {things} does {name} have now?", "How many {things} are there for {name} at the end?")
_LINKS = ("", "", "Then ", "Next, ", "Later, ")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One sentence of a problem and what it does to the running quantity."""

    kind: str
    key: str
    """The words that a solution quotes, as "3 times"."""
    k: int
    n: int

    def compute(self, v: int) -> Computation:
        """The right computation from the running quantity v."""
        return KINDS[self.kind].right(v, self.k, self.n)

    def line(self, computation: Computation) -> str:
        """The step as a solution writes it, as "half: 16/2=8"."""
        return f"{self.key}: {computation[0]}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A question, its chain of steps and its answer."""

    question: str
    start: int
    steps: tuple[Step, ...]
    answer: int

    @property
    def problem_id(self) -> str:
        """16 hex digits of the question's hash."""
        return hashlib.sha256(self.question.encode()).hexdigest()[:16]

    def solution(self) -> str:
        """The worked reference solution."""
        lines, v = [], self.start
        for step in self.steps:
            computation = step.compute(v)
            lines.append(step.line(computation))
            v = computation[1]
        return write_solution(lines, v)


def write_solution(lines: list[str], answer: int) -> str:
    """Lines of a solution, then the boxed answer."""
    return "\n".join([*lines, f"\\boxed{{{answer}}}"])


def make_problem(rng: random.Random) -> Problem:
    """One problem; draws again until all quantities are whole, within 1..LARGEST, on the right path and on the all-wrong path."""
    num_steps = rng.choices((2, 3, 4), (0.4, 0.4, 0.2))[0]
    while True:
        kinds = rng.choices(list(KINDS), [kind.weight for kind in KINDS.values()], k=num_steps)
        start = rng.randint(2, 36)
        drawn = [(name, rng.choice(KINDS[name].numbers), rng.choice(KINDS[name].second_numbers)) for name in kinds]
        if len(set(kinds)) == len(kinds) and _is_clean(start, drawn):
            return _write_problem(rng, start, drawn)


def _is_clean(start: int, drawn: list[tuple[str, int, int]]) -> bool:
    right, wrong = start, start
    for name, k, n in drawn:
        kind = KINDS[name]
        if not _divides(kind, right, k) or not _divides(kind, wrong, k):
            return False
        before = right
        right, wrong = kind.right(right, k, n)[1], kind.wrong[0](wrong, k, n)[1]
        if not (1 <= right <= LARGEST and 1 <= wrong <= LARGEST) or kind.wrong[0](before, k, n)[1] == right:
            return False
    return True


def _divides(kind: Kind, v: int, k: int) -> bool:
    """True when the right rule leaves no remainder (trivially so when it does not divide)."""
    return "/" not in kind.right(v, k, 1)[0] or v % k == 0


def _write_problem(rng: random.Random, start: int, drawn: list[tuple[str, int, int]]) -> Problem:
    (name, he), *others = rng.sample(_PEOPLE, len(drawn) + 1)
    things = rng.choice(_THINGS)
    sentences, steps = [rng.choice(_STARTS).format(name=name, v=start, things=things)], []
    for kind_name, k, n in drawn:
        sentence, key = rng.choice(KINDS[kind_name].sentences)
        other = others[0][0]
        text = sentence.format(he=he, him="him" if he == "he" else "her", things=things, other=other, k=k, n=n)
        link = rng.choice(_LINKS) if sentences[1:] else ""
        sentences.append(link + text if link else text[0].upper() + text[1:])
        steps.append(Step(kind=kind_name, key=key.format(k=k, n=n), k=k, n=n))
        if (
            "{other}" in sentence
        ):  # the running quantity is the other's from here on; nobody comes back, or the text would contradict itself
            name, he = others.pop(0)
    sentences.append(rng.choice(_ENDS).format(name=name, things=things))
    v = start
    for step in steps:
        v = step.compute(v)[1]
    return Problem(question=" ".join(sentences), start=start, steps=tuple(steps), answer=v)


def make_split(split: str, excluded: Collection[str] = ()) -> Iterator[Problem]:
    """Endless distinct problems of one split, none of which has a problem_id in `excluded`. Raises ValueError for an unknown split."""
    if split not in SPLIT_SEEDS:
        raise ValueError(f"split {split} is unknown; choose one of {', '.join(SPLIT_SEEDS)}")
    rng, seen = random.Random(SPLIT_SEEDS[split]), set(excluded)
    while True:
        problem = make_problem(rng)
        if problem.problem_id not in seen:
            seen.add(problem.problem_id)
            yield problem


def committed_splits() -> dict[str, list[Problem]]:
    """The committed problem sets, made anew from their seeds; no question is in two of them."""
    splits: dict[str, list[Problem]] = {}
    taken: set[str] = set()
    for split, size in SPLIT_SIZES.items():
        splits[split] = [problem for problem, _ in zip(make_split(split, taken), range(size), strict=False)]
        taken |= {problem.problem_id for problem in splits[split]}
    return splits


def write_jsonl(problems: list[Problem], path: Path) -> None:
    """One JSON object a line: problem_id, question, reference_answer, reference_solution."""
    rows = [
        {"problem_id": p.problem_id, "question": p.question, "reference_answer": str(p.answer), "reference_solution": p.solution()}
        for p in problems
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Write the committed problem sets."""
    logging.basicConfig(level=logging.INFO)
    for split, problems in committed_splits().items():
        write_jsonl(problems, DATA_DIRECTORY / f"{split}.jsonl")
        logger.info("wrote %d problems to %s.jsonl", len(problems), split)


if __name__ == "__main__":
    main()
