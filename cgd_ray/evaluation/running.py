"""How a model does so far, while it still answers: rows are graded as they are written, and their verdicts kept for the report.

No answer is graded twice, so the estimate costs nothing but its interval. Answers that finish early are the shorter ones, which may be the
better ones: the estimate says where it goes, and the report says what it is.
How to use: `grades = Grades(graders)`; `with estimating(sitting, prompts, grades) as estimate: ... estimate()`.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.data.durable import IDS, committed, parts_of
from cgd_ray.data.ids import ABSENT, Ids
from cgd_ray.data.prompts import Prompts
from cgd_ray.evaluation.benchmarks.loading import FIELDS
from cgd_ray.evaluation.papers import Paper
from cgd_ray.evaluation.sitting import Sitting
from cgd_ray.evaluation.statistics.intervals import accuracy_interval
from cgd_ray.evaluation.statistics.rates import avg_at_k
from cgd_ray.grading.grader import Grader
from cgd_ray.grading.verdict import Answer, Kind, Ungradable, Verdict

LOOK_EVERY_S = 2.0
MOST_SHOWN = 3
"""Papers whose estimates are beside a bar."""


class Grades:
    """Verdicts that were made already, by paper and row; a verdict counts for the text that it is on."""

    def __init__(self, graders: Mapping[str, Grader]) -> None:
        """`graders` has one for each grader that a paper names."""
        self._graders = graders
        self._known: dict[tuple[str, int], tuple[int, Verdict]] = {}

    def verdicts(self, paper: Paper, places: Sequence[int], texts: Sequence[str | None]) -> list[Verdict]:
        """On the answers to some rows of a paper. Raises what its grader raises."""
        wanted = [(paper.name, place) for place in places]
        new = [index for index, key in enumerate(wanted) if self._known.get(key, (None,))[0] != hash(texts[index])]
        answers = answers_to(paper, [places[index] for index in new], [texts[index] for index in new])
        made = self._graders[paper.grader].verdicts(answers)
        self._known |= {wanted[index]: (hash(texts[index]), verdict) for index, verdict in zip(new, made, strict=True)}
        return [self._known[key][1] for key in wanted]

    def kind(self, paper: Paper) -> Kind:
        """How a paper's answers are graded."""
        return self._graders[paper.grader].kind

    def forget(self, paper: Paper) -> None:
        """Keep no verdicts on a paper whose report is written."""
        self._known = {key: value for key, value in self._known.items() if key[0] != paper.name}


def answers_to(paper: Paper, places: Sequence[int], texts: Sequence[str | None]) -> list[Answer]:
    """What a grader is given of some rows of a paper."""
    rows = paper.rows.select(["question", "reference_answer", FIELDS]).take(pa.array(places, pa.int64())).to_pylist()
    return [
        Answer(text=text, reference=row["reference_answer"], fields={"question": row["question"], **json.loads(row[FIELDS] or "{}")})
        for text, row in zip(texts, rows, strict=True)
    ]


@contextmanager
def estimating(sitting: Sitting, prompts: Prompts, grades: Grades, only_if: bool) -> Iterator[Callable[[], str]]:
    """Grade in a thread what a sitting has written; yields what says in a few words how each of its papers goes.

    Nothing is graded before the end where nobody looks.
    """
    if not only_if:
        yield lambda: ""
        return
    estimate, is_over = _Estimate(sitting, prompts, grades), threading.Event()

    def work() -> None:
        while not is_over.wait(LOOK_EVERY_S):
            # a part is written again after a fault, or handed out already; a row that cannot be graded is told by the report
            with suppress(OSError, pa.ArrowInvalid, Ungradable):
                estimate.look(is_over)

    thread = threading.Thread(target=work, name="running-estimate", daemon=True)
    thread.start()
    try:
        yield lambda: estimate.text
    finally:
        is_over.set()
        thread.join()


class _Estimate:
    """What is graded of a sitting."""

    def __init__(self, sitting: Sitting, prompts: Prompts, grades: Grades) -> None:
        self._sitting, self._grades = sitting, grades
        self._state = sitting.output.with_name(f"{sitting.output.name}_state") / IDS
        self._ids = {paper: Ids(paper.asked(prompts)["record_id"]) for paper in sitting.fingerprints}
        self._seen: set[Path] = set()
        self._so_far = {paper: _SoFar(paper) for paper in sitting.fingerprints}
        self.text = ""

    def look(self, is_over: threading.Event) -> None:
        """Grade the parts that are new."""
        for part in parts_of(committed(self._state), self._sitting.output):
            if is_over.is_set():
                return
            if part not in self._seen:
                self._grade(pq.read_table(part, columns=["record_id", "attempt"]))
                self._seen.add(part)
        self.text = self._told()

    def _grade(self, rows: pa.Table) -> None:
        for paper, ids in self._ids.items():
            places_N = ids.find(rows["record_id"])
            mine = rows.filter(pa.array(places_N != ABSENT))
            places = places_N[places_N != ABSENT].tolist()
            if places:
                verdicts = self._grades.verdicts(paper, places, mine["attempt"].to_pylist())
                self._so_far[paper].add(places, [verdict.correct is True for verdict in verdicts])

    def _told(self) -> str:
        running = [each for each in self._so_far.values() if each.is_running]
        return ", ".join(each.told() for each in running[:MOST_SHOWN])


class _SoFar:
    """What is graded of a paper."""

    def __init__(self, paper: Paper) -> None:
        self._paper = paper
        self._problems = paper.rows["problem_id"]
        self._graded: set[int] = set()
        self._by_problem: dict[str, list[bool]] = {}

    @property
    def is_running(self) -> bool:
        """Whether some rows are graded and not all."""
        return 0 < len(self._graded) < len(self._problems)

    def add(self, places: Sequence[int], correct: Sequence[bool]) -> None:
        """Count rows; those that are written again after a fault are counted already."""
        for place, is_correct in zip(places, correct, strict=True):
            if place not in self._graded:
                self._graded.add(place)
                self._by_problem.setdefault(self._problems[place].as_py(), []).append(is_correct)

    def told(self) -> str:
        """The mean over the problems that have an answer, with its interval."""
        by_problem = list(self._by_problem.values())
        mean, interval = avg_at_k(by_problem)[1], accuracy_interval(by_problem)
        return f"{self._paper.name} {mean:.1%} so far ({interval.low:.1%} to {interval.high:.1%})"
