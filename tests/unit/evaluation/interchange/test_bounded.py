"""What others wrote is read as if it meant harm."""

import json
import zipfile
from pathlib import Path

import pytest

from cgd_ray.evaluation.interchange.bounded import MEMBER_LIMIT, open_archive, read_lines
from tests.unit.evaluation.interchange.evaluations import add_zstandard

CONTENT = json.dumps({"text": "é" * 1000, "score": float("nan")}).encode()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, 93])
def test_a_member_is_read_however_it_is_compressed(tmp_path: Path, method: int) -> None:
    file = tmp_path / "log.eval"
    with zipfile.ZipFile(file, "w") as archive:
        if method == 93:
            add_zstandard(archive, "header.json", CONTENT)
        else:
            archive.writestr("header.json", CONTENT, compress_type=method)
    with open_archive(file) as opened:
        assert opened.read_object("header.json")["text"] == "é" * 1000


def test_of_members_with_one_name_the_last_counts_as_for_inspect(tmp_path: Path) -> None:
    file = tmp_path / "log.eval"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.json", '{"try": 1}')
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("header.json", '{"try": 2}')
    with open_archive(file) as opened:
        assert opened.names == ["header.json"]
        assert opened.read_object("header.json") == {"try": 2}


def test_a_member_that_says_it_is_huge_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "log.eval"
    with zipfile.ZipFile(file, "w") as archive:
        add_zstandard(archive, "samples/x_epoch_1.json", b"{}", declared_size=MEMBER_LIMIT + 1)
    with (
        pytest.raises(ValueError, match=r"log\.eval: 'samples/x_epoch_1\.json' unpacks to 256 MiB, and at most 256 are read"),
        open_archive(file),
    ):
        pass


def test_many_members_that_are_each_allowed_are_refused_together(tmp_path: Path) -> None:
    file = tmp_path / "log.eval"
    with zipfile.ZipFile(file, "w") as archive:
        for place in range(130):
            add_zstandard(archive, f"samples/{place}_epoch_1.json", b"{}", declared_size=MEMBER_LIMIT)
    with pytest.raises(ValueError, match=r"log\.eval unpacks to 33,280 MiB, and at most 32,768 are read"), open_archive(file):
        pass


def test_a_member_that_unpacks_to_more_than_it_says_is_refused_and_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "log.eval"
    with zipfile.ZipFile(file, "w") as archive:
        add_zstandard(archive, "header.json", b" " * 2**24, declared_size=100)
    with open_archive(file) as opened, pytest.raises(ValueError, match=r"log\.eval is a damaged archive \('header\.json': another size"):
        opened.read_object("header.json")


def test_an_archive_that_was_cut_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "log.eval"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.json", CONTENT)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"log\.eval is no zip archive that can be read"), open_archive(file):
        pass


def test_a_damaged_member_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "log.eval"
    with zipfile.ZipFile(file, "w") as archive:
        add_zstandard(archive, "header.json", CONTENT)
    damaged = bytearray(file.read_bytes())
    damaged[60] ^= 0xFF
    file.write_bytes(damaged)
    with open_archive(file) as opened, pytest.raises(ValueError, match=r"log\.eval is a damaged archive"):
        opened.read_object("header.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no valid JSON"),
        ("[1]", "list, not an object"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' + "1" * 10_000 + "}", "digits"),
    ],
)
def test_json_that_is_none_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text(f'{{"a": 1}}\n\n{text}\n')
    lines = read_lines(file)
    assert next(lines) == (1, {"a": 1})
    with pytest.raises(ValueError, match=rf"samples\.jsonl, line 3 holds .*{said}") as raised:
        next(lines)
    assert "\n" not in str(raised.value)


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(ValueError, match=r"samples\.jsonl, line 1 is not UTF-8 text"):
        list(read_lines(file))
