"""Training problems that a benchmark asks too are removed and named; their neighbours are kept."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cgd_ray.config import Config, DecontaminationConfig, ProblemsConfig, SourceConfig, load_config, to_yaml
from cgd_ray.data.rundir import RunDir, write_json
from cgd_ray.problems.decontamination import COMMON_QUESTIONS, Benchmarks, decontaminate
from cgd_ray.problems.sources import load_problems
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.reporting.summary import closing_rows, summarise

FARM = "A farmer has 12 cows and sells $3$ of them each year. How many cows has he after 2 years, if none is born?"
POINT = r"Convert the point $(0,3)$ in rectangular coordinates to polar coordinates, in the form $(r,\theta)$, where $r > 0$."
SHORT = "What is $3 + 4$?"


def benchmark(path: Path, questions: list[str], **columns: Any) -> SourceConfig:
    path.write_text("".join(json.dumps({"problem": question, **columns}) + "\n" for question in questions))
    return SourceConfig.model_validate({"path": str(path), "fields": {"question": "problem"}})


@pytest.fixture
def against(tmp_path: Path) -> DecontaminationConfig:
    """Two benchmarks, of three questions in all."""
    return DecontaminationConfig(against=(benchmark(tmp_path / "one.jsonl", [FARM, SHORT]), benchmark(tmp_path / "two.jsonl", [POINT])))


def problems(tmp_path: Path, questions: list[str]) -> pa.Table:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    return load_problems(ProblemsConfig(path=str(path)), "problems", notes=[])


EDITS: dict[str, Callable[[str], str]] = {
    "the same": lambda text: text,
    "other case": str.upper,
    "other white space": lambda text: text.replace(" ", "\n  "),
    "no dollars": lambda text: text.replace("$", ""),
    "other delimiters": lambda text: re.sub(r"\$(.*?)\$", r"\\(\1\\)", text),
    "spaced formulas": lambda text: re.sub(r"([+>])", r"\\,\1\\quad ", text),
    "sized brackets": lambda text: text.replace("(", r"\left(").replace(")", r"\right)"),
    "other quotes and stops": lambda text: text.replace(",", " --").replace(".", "!") if text != SHORT else text,
    "wide digits": lambda text: text.replace("3", "３"),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("question", [FARM, POINT, SHORT])
def test_a_benchmark_question_is_found_however_it_is_set(edit: str, question: str, against: DecontaminationConfig) -> None:
    assert Benchmarks(against).overlap(EDITS[edit](question)) is not None


def test_a_copied_sentence_inside_another_text_is_found(against: DecontaminationConfig) -> None:
    found = Benchmarks(against).overlap(f"Please help me with this one! {FARM} Show all of your work.")
    assert found is not None
    assert (Path(found.benchmark).name, found.row) == ("one.jsonl", 1)
    assert found.ngram == "a farmer has 12 cows and sells 3 of them each year how"


@pytest.mark.parametrize(
    "question",
    [
        "What is $3 - 4$?",  # the words of a benchmark's question, another sign
        "What is 34?",
        "What is 3 + 4 + 5?",
        "A farmer has 12 cows and sells $3$ of them each month. How many has he?",  # 11 words in common
        "Convert the number 3 to binary.",
        "???",
    ],
)
def test_neighbours_of_benchmark_questions_are_clean(question: str, against: DecontaminationConfig) -> None:
    assert Benchmarks(against).overlap(question) is None


def test_the_run_of_words_that_counts_is_a_setting(against: DecontaminationConfig) -> None:
    question = "A farmer has 12 cows and sells $3$ of them each month. How many has he?"
    assert Benchmarks(against.model_copy(update={"ngram": 11})).overlap(question) is not None
    assert Benchmarks(against.model_copy(update={"ngram": 12})).overlap(question) is None


def test_a_phrase_of_the_trade_is_no_overlap_but_its_whole_question_is(tmp_path: Path) -> None:
    phrase = "The answer is m/n, where m and n are relatively prime positive integers. What is m + n?"
    questions = [f"Add {index} and {index + 1} halves. {phrase}" for index in range(COMMON_QUESTIONS)]
    found = Benchmarks(DecontaminationConfig(against=(benchmark(tmp_path / "contest.jsonl", questions),)))
    assert found.overlap(f"A dog runs. {phrase}") is None
    assert all(found.overlap(question) is not None for question in questions)
    once = Benchmarks(DecontaminationConfig(against=(benchmark(tmp_path / "contest.jsonl", questions[:1] * COMMON_QUESTIONS),)))
    assert once.overlap(f"A dog runs. {phrase}") is not None, "one question, published several times, is no phrase of the trade"


def test_the_code_of_a_figure_is_no_overlap_but_tells_short_questions_apart(tmp_path: Path) -> None:
    def asked(words: str, size: int) -> str:
        return f"{words} [asy]\nsize({size}); draw((0,0)--(1,0)--(1,1)--(0,1)--cycle); label('A', (0,0), SW);\n[/asy]"

    found = Benchmarks(DecontaminationConfig(against=(benchmark(tmp_path / "b.jsonl", [asked("Find the area shown.", 100)]),)))
    assert found.overlap(asked("How long is the side?", 100)) is None
    assert found.overlap(asked("Find the area shown.", 200)) is None
    assert found.overlap(asked("Find the area shown.", 100)) is not None


def test_overlapping_problems_are_removed_and_named(tmp_path: Path, against: DecontaminationConfig) -> None:
    given_problems = problems(tmp_path, ["How many legs has a cow?", FARM, "What is 3+4?", "How many eyes has a cow?"])
    kept, report = decontaminate(given_problems, against)
    assert kept["question"].to_pylist() == ["How many legs has a cow?", "How many eyes has a cow?"]
    assert kept.schema == given_problems.schema
    ids = given_problems["problem_id"].to_pylist()
    assert [found["problem_id"] for found in report.pop("problems")] == ids[1:3]
    assert report == {"checked": 4, "removed": 2, "ngram": 13}


def test_the_report_names_the_benchmarks_row_and_id(tmp_path: Path) -> None:
    source = benchmark(tmp_path / "b.jsonl", [SHORT, FARM], unique_id="test/1")  # a benchmark's ids are taken as they are
    source = source.model_copy(update={"fields": source.fields.model_copy(update={"problem_id": "unique_id"})})
    _, report = decontaminate(problems(tmp_path, ["How are you?", FARM]), DecontaminationConfig(against=(source,)))
    (found,) = report["problems"]
    assert (found["benchmark"], found["row"], found["benchmark_id"]) == (source.path, 2, "test/1")
    json.dumps(report)


def test_a_run_with_nothing_left_is_refused(tmp_path: Path, against: DecontaminationConfig) -> None:
    with pytest.raises(ValueError, match=r"decontaminate with ngram 13 removes all 1 problems .*row 1 of .*one.jsonl.*; raise ngram"):
        decontaminate(problems(tmp_path, [FARM]), against)


def test_an_unreadable_benchmark_is_named_with_its_setting(tmp_path: Path, against: DecontaminationConfig) -> None:
    missing = SourceConfig(path=str(tmp_path / "three.jsonl"))
    with pytest.raises(ValueError, match=r"^problems.decontaminate.against.2.path .*three.jsonl does not exist"):
        Benchmarks(against.model_copy(update={"against": (*against.against, missing)}))


WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=2), st.integers(1, 6))
def test_an_overlap_is_a_common_run_of_n_words_or_the_same_question(asked: list[str], benchmarks: list[list[str]], ngram: int) -> None:
    def runs(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[start : start + ngram]) for start in range(len(words) - ngram + 1)}

    expected = any(asked == words or runs(asked) & runs(words) for words in benchmarks)
    assert (find_among(benchmarks, ngram).overlap(" ".join(asked)) is not None) == expected


def find_among(questions: list[list[str]], ngram: int) -> Benchmarks:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        source = benchmark(Path(directory, "b.jsonl"), [" ".join(words) for words in questions])
        return Benchmarks(DecontaminationConfig(against=(source,), ngram=ngram))


def load(tmp_path: Path, decontaminate: Any) -> Config:
    tree = {"run_dir": "run", "problems": {"path": "p.jsonl", "decontaminate": decontaminate}, "student": {"model": "s"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**tree, "teacher": {"model": "t"}}))
    return load_config(tmp_path / "config.yaml")


def test_a_typing_error_in_a_list_of_benchmarks_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown setting problems.decontaminate.against.0.feilds; did you mean fields\?"):
        load(tmp_path, {"against": [{"path": "b.jsonl", "feilds": {}}]})


def test_no_benchmark_to_compare_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"problems.decontaminate.against is \[\]"):
        load(tmp_path, {"against": []})


def test_paths_of_benchmarks_become_absolute_and_survive_printing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.jsonl").touch()
    config = load(tmp_path, {"against": [{"path": "b.jsonl"}], "ngram": 8})
    assert config.problems.decontaminate is not None
    assert config.problems.decontaminate.against[0].path == str(tmp_path / "b.jsonl")
    Path("printed.yaml").write_text(to_yaml(config, with_docs=True))
    assert load_config("printed.yaml") == config


def test_the_summary_tells_what_was_removed_and_null_where_nothing_was_compared(tmp_path: Path, against: DecontaminationConfig) -> None:
    run, config = RunDir(tmp_path / "run"), load(tmp_path, None)
    kept, report = decontaminate(problems(tmp_path, ["How many legs has a cow?", FARM]), against)
    write_work_list(make_work_list(kept, num_samples=2), run.work_list)
    summary = summarise(config, run)
    assert (summary["problems"], summary["problems_removed"]) == (1, None)
    assert closing_rows(summary)[0]["result"] == "1"
    write_json(run.decontamination, report)
    summary = summarise(config, run)
    assert (summary["problems"], summary["problems_removed"]) == (1, 1)
    assert closing_rows(summary)[0]["result"] == "1, 1 removed that overlap with a benchmark"
