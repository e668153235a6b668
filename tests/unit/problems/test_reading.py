"""Which rows of a directory are taken is what its files' names and the settings say, or it is refused; never the rows of another split."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import SourceConfig
from cgd_ray.problems.reading import read_rows


def write(file: Path, *questions: str, **columns: Any) -> Path:
    """A file of problems, in the format that its suffix says."""
    rows = [{"question": question, **columns} for question in questions or (f"{file.parent.name}/{file.name}", "another")]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        file.write_text("question\n" + "".join(row["question"] + "\n" for row in rows))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def questions(path: Path, **settings: Any) -> list[str]:
    rows = [row.columns["question"] for row in read_rows(SourceConfig(path=str(path), **settings))]
    return [question for question in rows if question != "another"]


LAYOUTS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "the hub's shards": (
        ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"],
        ["top/train-00000-of-00002.parquet", "top/train-00001-of-00002.parquet"],
        ["top/test-00000-of-00001.parquet"],
    ),
    "in data": (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], ["data/train-00000-of-00001.parquet"], []),
    "in folders": (["train/a.parquet", "train/b.parquet", "test/a.parquet"], ["train/a.parquet", "train/b.parquet"], ["test/a.parquet"]),
    "one subset": (["main/train-0.parquet", "main/test-0.parquet"], ["main/train-0.parquet"], ["main/test-0.parquet"]),
    "JSON lines": (["train.jsonl", "test.jsonl", "validation.jsonl"], ["top/train.jsonl"], ["top/test.jsonl"]),
    "JSON lines with another name": (["train.json", "test.json"], ["top/train.json"], ["top/test.json"]),
    "words in names": (["math_train.jsonl", "math_eval.jsonl"], ["top/math_train.jsonl"], ["top/math_eval.jsonl"]),
    "CSV": (["train.csv", "test.csv"], ["top/train.csv"], ["top/test.csv"]),
    "no split in any name": (["a.jsonl", "contest.jsonl"], ["top/a.jsonl", "top/contest.jsonl"], []),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_split_chooses_the_files(name: str, tmp_path: Path) -> None:
    files, train, test = LAYOUTS[name]
    for file in files:
        write(tmp_path / "top" / file)
    assert questions(tmp_path / "top") == train
    if test:
        assert questions(tmp_path / "top", split="test") == test
    with pytest.raises(ValueError, match=r"^split 'exam' is not in .*top; it has train"):
        questions(tmp_path / "top", split="exam")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["test.parquet"], "split 'train' is not in .*; it has test"),
        (["problems.jsonl", "test.jsonl"], "split 'train' is not in .*; it has test"),
        (["dev-00000-of-00001.parquet"], "split 'train' is not in .*; it has validation"),
        (["Test.jsonl", "Train.jsonl"], "split 'train' of .* would be Test.jsonl too, whose name says test"),
        (["problems.parquet", "heldout.parquet"], "would be heldout.parquet too, whose name says heldout"),
        (["mathTest.parquet"], "would be mathTest.parquet too, whose name says test"),
        (
            ["main/train-0.parquet", "socratic/train-0.parquet"],
            "subset is None, and .* has files in main, socratic; set subset to one of them",
        ),
        (["train.jsonl", "old/train.jsonl"], "subset is None, and .* has files in old; set subset"),
        (["train.jsonl", "test.parquet"], "could not be loaded as a data set: Couldn't infer the same data file format"),
    ],
)
def test_rows_that_may_be_of_another_split_or_subset_are_never_taken(files: list[str], expected: str, tmp_path: Path) -> None:
    for file in files:
        write(tmp_path / file)
    with pytest.raises(ValueError, match=expected) as refused:
        questions(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_subset_is_a_folder_where_no_readme_tells_of_subsets(tmp_path: Path) -> None:
    for subset in ("main", "socratic"):
        for split in ("train", "test"):
            write(tmp_path / subset / f"{split}-00000-of-00001.parquet", f"{subset} {split}")
    assert questions(tmp_path, subset="socratic") == ["socratic train"]
    assert questions(tmp_path, subset="main", split="test") == ["main test"]
    with pytest.raises(ValueError, match=r"^subset 'algebra' is not in .*; it has main, socratic$"):
        questions(tmp_path, subset="algebra")


def test_a_readme_that_is_only_that_changes_nothing_and_is_not_complained_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"{split}.jsonl", split)
    (tmp_path / "README.md").write_text("# Mine\n")
    monkeypatch.chdir(tmp_path)
    assert questions(Path(".")) == ["train"]
    assert capfd.readouterr() == ("", "")
    (tmp_path / "README.md").write_text("---\nconfigs: [\n---\n")
    with pytest.raises(ValueError, match=r"^path README.md cannot be read: while parsing"):
        questions(Path("."))


def test_a_single_file_is_read_whole_and_has_no_split_or_subset(tmp_path: Path) -> None:
    file = write(tmp_path / "questions.jsonl", "a")
    assert questions(file) == ["a"]
    assert questions(write(tmp_path / "gsm8k_test.parquet", "b")) == ["b"]  # named by the user, so it is meant
    assert questions(tmp_path / "gsm8k_test.parquet", split="test") == ["b"]
    for settings in ({"split": "test"}, {"subset": "main"}):
        with pytest.raises(
            ValueError, match=r"^(split is 'test'|subset is 'main'), and path .* is a single file without any; leave it out"
        ):
            questions(file, **settings)


def test_a_saved_split_is_not_taken_for_another_one(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([{"question": "a"}], split="test")
    rows.save_to_disk(str(tmp_path / "saved"))
    assert questions(tmp_path / "saved", split="test") == ["a"]
    with pytest.raises(ValueError, match=r"^split 'train' is not in .*saved; it has test$"):
        questions(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"^subset is 'main', but .*saved is a saved data set, which has none; leave it out$"):
        questions(tmp_path / "saved", split="test", subset="main")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_files_of_different_columns_are_no_one_data_set(suffix: str, tmp_path: Path) -> None:
    write(tmp_path / f"a.{suffix}", "a", answer="1")
    write(tmp_path / f"b.{suffix}", "b", answer="2", level="hard")
    expected = f"holds files of different columns: b.{suffix} has 'level' and a.{suffix} has not; give one of them, or the others too under"
    with pytest.raises(ValueError, match=expected):
        questions(tmp_path)


def test_a_format_that_is_read_by_the_library_is_refused_in_one_line_too(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("question,level\nWhy?,hard\n")
    with pytest.raises(ValueError, match=r"could not be loaded as a data set: .*level") as refused:
        questions(tmp_path)
    assert "\n" not in str(refused.value)


def test_rows_of_one_file_may_lack_columns_and_texts_stay_texts(tmp_path: Path) -> None:
    for name, answer in (("a", "2026-11-30"), ("b", 7)):
        write(tmp_path / f"{name}.jsonl", name, answer=answer)
    with (tmp_path / "b.jsonl").open("a") as stream:
        stream.write('{"question": "c"}\n')
    rows = list(read_rows(SourceConfig.model_validate({"path": str(tmp_path), "fields": {"reference_answer": "answer"}})))
    assert [row.columns.get("answer") for row in rows] == ["2026-11-30", 7, None]
    assert [(Path(row.file).name, row.number) for row in rows] == [("a.jsonl", 1), ("b.jsonl", 1), ("b.jsonl", 2)]


def test_a_limit_does_not_read_the_files_after_it(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "a")
    (tmp_path / "b.parquet").write_bytes(b"no Parquet")
    rows = read_rows(SourceConfig(path=str(tmp_path)))
    assert next(rows).columns == {"question": "a"}
    with pytest.raises(ValueError, match=r"^path .*b\.parquet is no Parquet"):
        next(rows)
