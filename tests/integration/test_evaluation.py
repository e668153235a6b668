"""Several benchmarks go through one engine pool, and no question goes through it twice, whatever is asked for later."""

from pathlib import Path

from cgd_ray.generation.progress import ROWS
from tests.exams import exam_of, paper_of
from tests.fakes import FakeEngines, answers_made

SUMS = {f"What is {n} + 1?": str(n + 1) for n in range(40)}
WORDS = {f"The word for {n}?": f"word {n}" for n in range(25)}


def test_benchmarks_are_answered_together_and_one_that_is_added_alone(ray_local: None, tmp_path: Path) -> None:
    journal, directory = tmp_path / "journal", tmp_path / "run" / "evaluation" / "base"
    papers = [paper_of(tmp_path, "sums", SUMS, num_samples=2, k=(1, 2)), paper_of(tmp_path, "words", WORDS, grader="exact")]
    engines = FakeEngines(journal=str(journal))
    told: list[tuple[int, str]] = []
    first = exam_of(papers, engine_factory=engines)(directory, lambda counts, estimate: told.append((counts[f"student{ROWS}"], estimate)))
    assert {name: (report["num_problems"], report["num_samples"]) for name, report in first.items()} == {"sums": (40, 2), "words": (25, 1)}
    assert len(answers_made(journal)) == 2 * len(SUMS) + len(WORDS)
    assert len(list(journal.iterdir())) == 1, "one engine answered all of them"
    assert told[-1][0] == 2 * len(SUMS) + len(WORDS)

    added = paper_of(tmp_path, "again", SUMS)
    second = exam_of([*papers, added], engine_factory=engines)(directory)
    assert {name: second[name] for name in first} == first
    assert len(answers_made(journal)) == 3 * len(SUMS) + len(WORDS)
    assert sorted(path.name for path in directory.iterdir()) == ["again", "sums", "words"], "nothing is left of the passes"
