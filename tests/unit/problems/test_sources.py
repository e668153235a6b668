"""Every kind of source gives the same checked table, and what is wrong with a source is found with its file, row and remedy."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import ProblemsConfig
from cgd_ray.data.records import PROBLEM_SCHEMA, short_hash
from cgd_ray.problems.sources import load_problems

ROWS: list[dict[str, Any]] = [
    {"name": "p1", "problem": "What is 1 + 1? 😀\u2028\x85 é", "answer": "2", "solution": "It is 2.\nDone.", "level": 3},
    {"name": "p2", "problem": "  \\frac{1}{2} + {x} \x00 ", "answer": None, "solution": None, "level": None},
]
FIELDS = {"question": "problem", "reference_answer": "answer", "reference_solution": "solution", "problem_id": "name"}


def write_jsonl(path: Path, rows: list[dict[str, Any]] = ROWS, ascii_only: bool = False) -> Path:
    lines = [json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_json(path: Path, content: Any = ROWS) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_parts(directory: Path) -> Path:
    """A Parquet file per row, not written in the order of their names; the second's empty columns have no type of their own."""
    directory.mkdir()
    write_parquet(directory / "b.parquet", ROWS[1:])
    write_parquet(directory / "a.parquet", ROWS[:1])
    return directory


def save_data_set(directory: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(directory))
    return directory


def save_splits(directory: Path) -> Path:
    splits = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:1])}
    datasets.DatasetDict(splits).save_to_disk(str(directory))
    return directory


SOURCES: dict[str, Callable[[Path], Path]] = {
    "rows.jsonl": write_jsonl,
    "ascii.jsonl": lambda path: write_jsonl(path, ascii_only=True),
    "rows.json": write_json,
    "rows.parquet": write_parquet,
    "parts": write_parts,
    "data set": save_data_set,
    "splits": save_splits,
}


def load(path: Path, fields: dict[str, Any] | None = None, **settings: Any) -> list[dict[str, Any]]:
    table = load_problems(ProblemsConfig(path=str(path), **{"fields": fields or {"question": "problem"}, **settings}), "problems", notes=[])
    assert table.schema == PROBLEM_SCHEMA
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_source_gives_the_same_problems_in_order(name: str, tmp_path: Path) -> None:
    expected = [
        {
            "problem_id": row["name"],
            "question": row["problem"],
            "reference_answer": row["answer"],
            "reference_solution": row["solution"],
            "error": None,
        }
        for row in ROWS
    ]
    assert load(SOURCES[name](tmp_path / name), FIELDS) == expected


def test_what_is_not_mapped_is_not_read_and_ids_come_from_the_question(tmp_path: Path) -> None:
    for row, problem in zip(ROWS, load(write_jsonl(tmp_path / "rows.jsonl")), strict=True):
        assert problem["problem_id"] == short_hash(row["problem"])
        assert problem["reference_answer"] is problem["reference_solution"] is None


def test_a_question_that_is_there_again_is_left_out_and_told(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [ROWS[0], ROWS[1], {**ROWS[0], "answer": "another"}, ROWS[1]])
    config, notes = ProblemsConfig.model_validate({"path": str(source), "fields": {"question": "problem"}}), list[str]()
    assert load_problems(config, "problems", notes)["question"].to_pylist() == [row["problem"] for row in ROWS]
    assert notes == ["problems: 2 of 4 rows repeat a question; the first of each is taken"]


def test_a_split_is_chosen_or_refused_with_the_ones_there_are(tmp_path: Path) -> None:
    source = save_splits(tmp_path / "splits")
    assert [row["question"] for row in load(source, split="test")] == [ROWS[0]["problem"]]
    with pytest.raises(ValueError, match=r"problems.split 'dev' is not in .*; it has train, test"):
        load(source, split="dev")


def test_a_limit_takes_the_first_and_does_not_look_at_the_rest(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"problem": None}])
    assert [row["question"] for row in load(source, limit=2)] == [row["problem"] for row in ROWS]


def test_a_limit_does_not_read_the_parts_after_it(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    (parts / "c.parquet").write_bytes(b"no Parquet")
    assert len(load(parts, FIELDS, limit=len(ROWS))) == len(ROWS)
    with pytest.raises(ValueError, match=r"c\.parquet is no Parquet"):
        load(parts, FIELDS)


def test_a_subset_of_a_data_set_is_chosen_or_refused_with_the_ones_there_are(tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    for name, row in zip(("main", "other"), ROWS, strict=True):
        (directory / name).mkdir(parents=True)
        write_jsonl(directory / name / "rows.jsonl", [row])
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/rows.jsonl\n" for name in ("main", "other"))
    (directory / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert [row["question"] for row in load(directory, subset="other")] == [ROWS[1]["problem"]]
    with pytest.raises(ValueError, match=r"could not be loaded as a data set: .*'main', 'other'"):
        load(directory)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        *[(27, "27"), (27.0, "27"), (0.5, "0.5"), ("007", "007"), (True, "True"), (None, None), (-3.0, "-3"), (1e20, str(10**20))],
        *[(1.5e-05, "0.000015"), (math.nan, None), ("", None), ("N/A", None), (["2"], "2"), ([], None)],
    ],
)
def test_answers_that_are_no_text_become_what_people_write(answer: Any, text: str | None, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [{"problem": "Why?", "answer": answer}])
    assert load(source, {"question": "problem", "reference_answer": "answer"})[0]["reference_answer"] == text


def test_rows_without_an_answer_are_counted_whether_they_lack_the_column_or_hold_nothing_there(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = [{"answer": "2"}, {"answer": " "}, {"answer": math.nan}, {"final_answer": "4"}]
    source = write_jsonl(tmp_path / "rows.jsonl", [{"problem": f"{number}?", **row} for number, row in enumerate(answers)])
    fields = {"question": "problem", "reference_answer": "answer"}
    config, notes = ProblemsConfig.model_validate({"path": str(source), "fields": fields}), list[str]()
    assert load_problems(config, "problems", notes)["reference_answer"].to_pylist() == ["2", None, None, None]
    assert notes == ["problems: 3 of 4 rows have no reference answer (1 lack the column 'answer', 2 hold nothing in column 'answer')"]


def test_a_solution_that_is_not_there_is_none_and_not_trained_on(tmp_path: Path) -> None:
    rows = [{"problem": f"{number}?", "solution": solution} for number, solution in enumerate([math.nan, " ", "None", ["It is 2."]])]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    problems = load(source, {"question": "problem", "reference_solution": "solution"})
    assert [problem["reference_solution"] for problem in problems] == [None, None, None, "It is 2."]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"problem": "b", "answer": ["1", "2"]},
            r"column 'answer' holds a list of 2 answers, \['1', '2'\] \(with list_answers set they are",
        ),
        ({"problem": "b", "answer": {"value": 2}}, r"column 'answer' holds {'value': 2}, which is neither a text nor a number"),
        ({"problem": "b", "answer": math.inf}, "column 'answer' holds inf, which is no number that"),
        ({"problem": math.nan}, "column 'problem' is nan, not a question"),
        ({"problem": ["long"] * 1000}, "column 'problem' is .*, not a question"),
    ],
)
def test_a_row_that_is_no_problem_is_refused_or_left_out_and_told(row: dict[str, Any], expected: str, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [{"problem": "a", "answer": "1"}, row, {"problem": "c", "answer": "3"}])
    tree = {"path": str(source), "fields": {"question": "problem", "reference_answer": "answer"}}
    with pytest.raises(
        ValueError, match=f"^problems.path {source}, row 3: {expected}.*; correct or .*, or set on_bad_row to drop$"
    ) as refused:
        load_problems(ProblemsConfig.model_validate(tree), "problems", [])
    assert len(str(refused.value)) < 400 + len(str(source))
    notes: list[str] = []
    config = ProblemsConfig.model_validate({**tree, "on_bad_row": "drop", "limit": 2})
    assert load_problems(config, "problems", notes)["question"].to_pylist() == ["a", "c"]  # a limit is of problems, not of rows
    (note,) = notes
    assert re.search(rf"^problems: rows left out, as on_bad_row says: 1; the first: path {source}, row 3: {expected}", note)


def test_broken_lines_are_left_out_too_and_a_source_without_any_problem_is_refused_by_its_first_row(tmp_path: Path) -> None:
    lines = ['{"problem": "a"}', "{", '["b"]', "[" * 100_000, f'{{"problem": "c", "n": {"9" * 5000}}}', '{"problem": "d"}']
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(lines))
    config, notes = (
        ProblemsConfig.model_validate({"path": str(source), "fields": {"question": "problem"}, "on_bad_row": "drop"}),
        list[str](),
    )
    assert load_problems(config, "problems", notes)["question"].to_pylist() == ["a", "d"]
    assert notes[0].startswith(f"problems: rows left out, as on_bad_row says: 4; the first: path {source}, row 2: no valid JSON (")
    source.write_text("\n".join(lines[1:3]))
    with pytest.raises(ValueError, match=r"row 1: no valid JSON"):
        load_problems(config, "problems", [])


def test_a_seed_shuffles_so_that_a_limit_takes_a_sample_and_a_larger_one_keeps_it(tmp_path: Path) -> None:
    rows = [{"problem": f"{number}?"} for number in range(100)]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    all_of_them, sample, other = (
        [row["question"] for row in load(source, shuffle_seed=seed, limit=limit)] for seed, limit in ((1, None), (1, 10), (2, 10))
    )
    assert sorted(all_of_them) == sorted(row["problem"] for row in rows)
    assert sample == all_of_them[:10] != [row["problem"] for row in rows[:10]]
    assert set(other) != set(sample)
    with pytest.raises(ValueError, match="row 201: column 'problem' is None"):  # its place in the file, not in the order
        load(write_jsonl(source, [*rows, {"problem": None}]), shuffle_seed=1)


def test_the_alternative_of_a_pattern_that_matched_is_the_answer(tmp_path: Path) -> None:
    rows = [{"problem": "a", "solution": "1+1 so #### 2"}, {"problem": "b", "solution": "it is \\boxed{4}"}]
    source, fields = write_jsonl(tmp_path / "rows.jsonl", rows), {"question": "problem", "reference_answer": "solution"}
    found = load(source, fields, reference_answer_pattern=r"####\s*(.+)|\\boxed\{(.+)\}")
    assert [problem["reference_answer"] for problem in found] == ["2", "4"]
    with pytest.raises(ValueError, match="matches nothing in row 1"):  # it matches, but none of its groups does
        load(source, fields, reference_answer_pattern=r"so|\\boxed\{(.+)\}")


def test_a_pattern_takes_the_answer_out_of_a_solution(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": "Why?", "solution": "6 * 7 = 42\n####  42 "}, {"question": "Who?", "solution": None}]
    fields = {"reference_answer": "solution", "reference_solution": "solution"}
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    problems = load(source, fields, reference_answer_pattern=r"####\s*(.+)")
    assert [problem["reference_answer"] for problem in problems] == ["42", None]
    assert [problem["reference_solution"] for problem in problems] == [row["solution"] for row in rows]
    with pytest.raises(
        ValueError, match=r"problems.reference_answer_pattern '@@\(.\)' matches nothing in row 1 of .*rows.jsonl, '6 .* 42 '"
    ):
        load(source, fields, reference_answer_pattern="@@(.)")


@pytest.mark.parametrize("field", ["problem", "answer", "solution", "name"])
def test_a_lone_surrogate_fails_its_own_row_only(field: str, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", [{**ROWS[0], field: "half \ud83d a pair"}, ROWS[1]], ascii_only=True)
    spoiled, sound = load(source, FIELDS)
    assert spoiled["error"] == "problem: text holds a lone surrogate, which is not valid Unicode"
    assert "half \\ud83d a pair" in spoiled.values()
    assert sound["error"] is None


@pytest.mark.parametrize(
    ("rows", "fields", "expected"),
    [
        ([ROWS[0], {**ROWS[1], "name": "p1"}], FIELDS, "rows 1 and 3 have the same id 'p1'; correct one"),
        ([{"problem": "a", "name": 7}, {"problem": "b", "name": 7.0}], {"question": "problem", "problem_id": "name"}, "the same id '7'"),
        ([ROWS[0], {**ROWS[1], "name": ""}], FIELDS, "row 3: column 'name' is empty; give it an id or set .* to null"),
        ([ROWS[0], {**ROWS[1], "problem": " \n"}], FIELDS, r"row 3: column 'problem' is ' \\n', not a question; correct or remove"),
        ([ROWS[0], {"name": "p2"}], FIELDS, "row 3: column 'problem' is None, not a question"),
        ([{"problem": ["a"]}], {"question": "problem"}, "row 1: column 'problem' is .'a'., not a question"),
        (ROWS, {**FIELDS, "reference_answer": "anwser"}, "fields.reference_answer names column 'anwser', which .* did you mean 'answer'"),
        (ROWS, {"question": "zzz"}, "fields.question names column 'zzz', which .* lacks; it has 'name', 'problem', 'answer'"),
        ([], FIELDS, "holds no problems; check it and the split"),
    ],
)
def test_rows_that_are_no_problems_are_refused(rows: list[dict[str, Any]], fields: dict[str, Any], expected: str, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ValueError, match=expected) as refused:
        load(source, fields)
    assert str(source) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rows.jsonl", b'{"problem": "a"}\n\n{"problem": \n', "row 3: no valid JSON"),
        ("rows.jsonl", b'{"problem": "a"}\n["b"]\n', "row 2: it is list, not an object with named columns"),
        ("rows.jsonl", '{"problem": "Wie groß?"}\n'.encode("latin-1"), "is not UTF-8 text .*; convert it"),
        ("rows.json", '[{"problem": "Wie groß?"}]'.encode("latin-1"), "is not UTF-8 text .*; convert it"),
        ("rows.json", b'{"problem": "a"}', "holds dict, not a list of problems"),
        ("rows.jsonl", '{"problem": "a"}\n'.encode("utf-16"), "is not UTF-8 text .*; convert it"),
        ("rows.jsonl", bytes(range(256)), "is not UTF-8 text .*; convert it"),
        ("rows.jsonl", b'{"problem": "a"}\n' + b"[" * 100_000, "row 2: JSON that is nested too deep to be read; correct or remove the row"),
        ("rows.jsonl", b'{"problem": ' + b"9" * 5000 + b"}", "row 1: an integer of more than 4,300 digits, which only fits into a text"),
        ("rows.json", b'[{"problem": ' + b"9" * 5000 + b"}]", "holds an integer of more than 4,300 digits"),
        ("rows.json", b"[" * 100_000, "holds JSON that is nested too deep"),
        ("rows.json", b"", "holds no valid JSON"),
        ("rows.json", b'["a"]', "row 1: it is str, not an object"),
        ("rows.parquet", b"no such thing", "is no Parquet"),
        ("rows.csv", b"problem\na\n", "is no .jsonl, .json or .parquet file and no directory with a data set"),
        ("folder/rows.unknown", b"problem\na\n", "could not be loaded as a data set"),
    ],
)
def test_files_that_hold_no_rows_are_refused(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    source = file.parent if file.parent != tmp_path else file
    with pytest.raises(ValueError, match=expected) as refused:
        load(source)
    assert str(source) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    for suffix in (".jsonl", ".json"):
        source = tmp_path / f"rows{suffix}"
        source.symlink_to("/proc/self/mem")  # a file whose bytes nobody gets, root neither
        with pytest.raises(ValueError, match=f"^problems.path {source} cannot be read \\(Input/output error\\); make it readable$"):
            load(source)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"problems.path {tmp_path / name} does not exist; give a file that does"):
        load(tmp_path / name)
