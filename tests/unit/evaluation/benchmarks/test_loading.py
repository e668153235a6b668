"""Benchmarks are what was published: as many problems, each with an answer, asked and numbered alike wherever their file lies."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cgd_ray.config import BenchmarkConfig
from cgd_ray.evaluation.benchmarks.catalogue import CATALOGUE, Benchmark, benchmark_named
from cgd_ray.evaluation.benchmarks.loading import FIELDS, content_sha256, load_benchmark, source_of

Row = Mapping[str, Any]
SIZE = 3
ROWS: dict[str, list[Row]] = {
    "gsm8k": [{"question": f"How many? {n}", "answer": f"It is {n}.\n#### {n},000"} for n in range(SIZE)],
    "amc23": [{"question": f"What is {n}?", "answer": float(n)} for n in range(SIZE)],
    "gpqa-diamond": [
        {"Question": f"Which one, {n}?", "Correct Answer": f"right {n}", **{f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)}}
        for n in range(SIZE)
    ],
    "mmlu-pro": [{"question": f"Which? {n}", "options": ["one", "two", "three"], "answer": "B"} for n in range(SIZE)],
    "ifeval": [
        {"key": n, "prompt": f"Say {n} in capitals.", "instruction_id_list": ["a:b"], "kwargs": [{"letters": None, "count": n}]}
        for n in range(SIZE)
    ],
}


def write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def table(name: str, rows: Sequence[Row], directory: Path, num_samples: int = 1) -> pa.Table:
    """A benchmark as the catalogue has it, but for its size."""
    config = BenchmarkConfig(name=name, path=write(directory / f"{name}.jsonl", rows))
    return load_benchmark(replace(benchmark_named(name), size=SIZE), config, num_samples, [])


def loaded(name: str, rows: Sequence[Row], directory: Path, num_samples: int = 1) -> list[dict[str, Any]]:
    return [dict(row) for row in table(name, rows, directory, num_samples).to_pylist()]


@pytest.mark.parametrize("name", ROWS)
def test_a_file_with_the_published_columns_is_a_benchmark(name: str, tmp_path: Path) -> None:
    rows = loaded(name, ROWS[name], tmp_path, num_samples=2)
    assert len(rows) == len({row["record_id"] for row in rows}) == 2 * SIZE
    assert len({row["problem_id"] for row in rows}) == SIZE


def test_the_answer_is_what_the_pattern_finds_and_numbers_are_written_as_people_do(tmp_path: Path) -> None:
    assert [row["reference_answer"] for row in loaded("gsm8k", ROWS["gsm8k"], tmp_path)] == ["0,000", "1,000", "2,000"]
    assert [row["reference_answer"] for row in loaded("amc23", ROWS["amc23"], tmp_path)] == ["0", "1", "2"]


def test_options_are_lettered_and_a_questions_own_order_is_the_same_in_every_file(tmp_path: Path) -> None:
    one = loaded("gpqa-diamond", ROWS["gpqa-diamond"], tmp_path)
    other = loaded("gpqa-diamond", list(reversed(ROWS["gpqa-diamond"])), tmp_path)
    assert {row["problem_id"]: row["question"] for row in one} == {row["problem_id"]: row["question"] for row in other}
    for number, row in enumerate(one):
        choices = json.loads(row[FIELDS])["choices"]
        assert sorted(choices) == [f"right {number}", "wrong 1", "wrong 2", "wrong 3"]
        assert choices["ABCD".index(row["reference_answer"])] == f"right {number}"
        assert f"\n{row['reference_answer']}. right {number}" in row["question"]
    (listed, *_) = loaded("mmlu-pro", ROWS["mmlu-pro"], tmp_path)
    assert listed["question"] == "Which? 0\n\nA. one\nB. two\nC. three"
    assert json.loads(listed[FIELDS]) == {"choices": ["one", "two", "three"]}


def test_options_stand_at_different_places_in_different_questions() -> None:
    form = benchmark_named("gpqa-diamond").form
    letters = {
        form.columns({"Question": f"Q{n}", "Correct Answer": "x", **{f"Incorrect Answer {k}": "y" for k in (1, 2, 3)}})["Correct Answer"]
        for n in range(40)
    }
    assert letters == {"A", "B", "C", "D"}


def test_instructions_have_no_reference_and_keep_the_arguments_that_are_given(tmp_path: Path) -> None:
    row = loaded("ifeval", ROWS["ifeval"], tmp_path)[1]
    assert (row["reference_answer"], row["question"]) == (None, "Say 1 in capitals.")
    assert json.loads(row[FIELDS]) == {"instruction_id_list": ["a:b"], "kwargs": [{"count": 1}]}


def test_a_question_that_is_published_twice_counts_twice(tmp_path: Path) -> None:
    rows = loaded("amc23", [ROWS["amc23"][0], ROWS["amc23"][1], ROWS["amc23"][0]], tmp_path)
    assert rows[2]["problem_id"] == f"{rows[0]['problem_id']}-2"


@pytest.mark.parametrize(
    ("name", "rows", "refusal"),
    [
        ("amc23", ROWS["amc23"][:2], r"evaluation\.benchmarks\.amc23\.path .* has 2 problems, and amc23 as published 3; give the whole"),
        ("amc23", [*ROWS["amc23"][:2], {"question": "Why?", "answer": None}], "has no answer to 1 of 3 problems"),
        ("amc23", [{"problem": "Why?", "answer": 1}], r"benchmarks\.amc23\.fields\.question names column 'question', which"),
        ("gsm8k", [{"question": "Why?", "answer": "so"}], r"gsm8k\.reference_answer_pattern .* matches nothing in row 1"),
        ("mmlu-pro", [{"question": "Why?", "answer": "A", "options": None}], "row 1: column 'options' is None, not a list"),
        ("gpqa-diamond", [{**ROWS["gpqa-diamond"][0], "Incorrect Answer 2": None}], "row 1: the options are .* not four texts"),
        ("ifeval", [{"prompt": "Do.", "instruction_id_list": ["a"], "kwargs": []}], "are not lists of the same length"),
    ],
)
def test_what_is_not_the_published_set_is_refused_in_one_line(name: str, rows: list[Row], refusal: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=refusal) as caught:
        loaded(name, rows, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "hint"), [("math500", "did you mean math-500"), ("qq", "there are gsm8k, math-500, amc23")])
def test_an_unknown_name_is_refused_with_those_that_are_near(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"evaluation.benchmarks has '{name}', which is no benchmark; {hint}"):
        benchmark_named(name)


def test_the_hash_names_questions_answers_and_options_and_not_the_number_of_samples(tmp_path: Path) -> None:
    def of(name: str, rows: Sequence[Row], num_samples: int = 1) -> str:
        return content_sha256(table(name, rows, tmp_path, num_samples))

    first = ROWS["amc23"]
    assert of("amc23", first) == of("amc23", first, num_samples=3)
    changed = [[{**first[0], "answer": 7}, *first[1:]], [{**first[0], "question": "Why?"}, *first[1:]]]
    options = [{**ROWS["mmlu-pro"][0], "options": ["two", "one", "three"]}, *ROWS["mmlu-pro"][1:]]
    hashes = [of("amc23", first), *(of("amc23", rows) for rows in changed), of("mmlu-pro", ROWS["mmlu-pro"]), of("mmlu-pro", options)]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("benchmark", CATALOGUE, ids=lambda benchmark: str(benchmark.name))
def test_the_hub_is_asked_for_one_commit_and_a_file_for_nothing_but_itself(benchmark: Benchmark) -> None:
    on_hub, mine = (source_of(benchmark, BenchmarkConfig(name=benchmark.name, path=path)) for path in (None, "/mine.jsonl"))
    assert (mine.path, mine.subset, mine.split, mine.revision) == ("/mine.jsonl", None, "train", None)
    if benchmark.name != "tinymath":
        assert (on_hub.path, on_hub.subset, on_hub.split, on_hub.revision) == (
            *(benchmark.place, benchmark.subset, benchmark.split),
            benchmark.revision,
        )
    given = source_of(benchmark, BenchmarkConfig(name=benchmark.name, revision="0" * 40))
    assert given.revision == "0" * 40


def test_the_embedded_benchmark_is_there_as_it_is_described() -> None:
    benchmark = benchmark_named("tinymath")
    assert load_benchmark(benchmark, BenchmarkConfig(name="tinymath"), 1, []).num_rows == benchmark.size == 400
