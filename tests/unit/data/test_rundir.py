"""A file is either whole or not there, a manifest names only what is there, and a run directory belongs to one config."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir, atomic_write, file_sha256, manifest_parts, read_json, read_manifest, write_json, write_manifest

ROLE = {"model": "some-body/some-model"}


def make_config(run_dir: Path, **changes: Any) -> Config:
    return Config.model_validate(
        {"run_dir": str(run_dir), "problems": {"path": "problems.jsonl"}, "student": ROLE, "teacher": ROLE, **changes}
    )


def make_stage(directory: Path, **contents: str) -> Path:
    """A finished stage with a part per keyword."""
    for name, content in contents.items():
        with atomic_write(directory / f"{name}.parquet") as temporary:
            temporary.write_text(content)
    write_manifest(directory, "fingerprint", directory.glob("*.parquet"), {"rows": 7})
    return directory


def test_a_written_file_is_whole_and_alone_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.json"
    for content in ({"a": "é 😀"}, {"b": [1, None]}):
        write_json(target, content)
        assert read_json(target) == content
        assert list(target.parent.iterdir()) == [target]


def test_a_body_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def write_half() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("old", [None, "old"])
def test_a_process_that_is_killed_before_the_rename_leaves_what_was_there(old: str | None, tmp_path: Path) -> None:
    target = tmp_path / "part.parquet"
    if old is not None:
        target.write_text(old)
    code = (
        "import os, pathlib; from cgd_ray.data.rundir import atomic_write\n"
        f"with atomic_write(pathlib.Path({str(target)!r})) as temporary:\n"
        "    temporary.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert (target.read_text() if target.exists() else None) == old
    assert sorted(tmp_path.glob("*.parquet")) == ([] if old is None else [target])  # what it left has no data file's name
    with atomic_write(target) as temporary:
        temporary.write_text("whole")
    assert target.read_text() == "whole"


def test_a_manifest_says_what_a_stage_consists_of(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "stage", b="bb", a="a")
    (stage / "left-behind.parquet").write_text("of a killed writer")
    assert manifest_parts(stage) == [stage / "a.parquet", stage / "b.parquet"]
    manifest = read_manifest(stage)
    assert manifest is not None
    assert (manifest["fingerprint"], manifest["rows"]) == ("fingerprint", 7)
    assert manifest["parts"][0] == {"path": "a.parquet", "bytes": 1, "sha256": file_sha256(stage / "a.parquet")}
    assert file_sha256(stage / "a.parquet") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def test_a_finished_stage_may_be_moved(tmp_path: Path) -> None:
    make_stage(tmp_path / "stage", a="a").rename(tmp_path / "moved")
    assert manifest_parts(tmp_path / "moved") == [tmp_path / "moved" / "a.parquet"]


@pytest.mark.parametrize(("content", "size"), [(None, "None"), ("", "0"), ("longer", "6")])
def test_a_part_that_is_gone_or_has_another_size_is_refused(content: str | None, size: str, tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "stage", a="a", b="bb")
    part = stage / "b.parquet"
    part.unlink()
    if content is not None:
        part.write_text(content)
    for read in (read_manifest, manifest_parts):
        with pytest.raises(ValueError, match=f"b.parquet has {size} bytes, its manifest says 2; remove {stage} to make it again"):
            read(stage)


def test_an_unfinished_stage_has_no_manifest_and_no_parts(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("of a killed writer")
    assert read_manifest(tmp_path) is None
    with pytest.raises(ValueError, match=r"has no manifest\.json, so the stage that writes it is unfinished; run it first"):
        manifest_parts(tmp_path)


def test_a_json_file_that_is_not_there_is_none_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    assert read_json(tmp_path / "missing.json") is None
    (tmp_path / "broken.json").write_text('{"half": ')
    with pytest.raises(ValueError, match=r"broken.json holds no valid JSON \(.*\); replace it"):
        read_json(tmp_path / "broken.json")


def test_a_claimed_directory_takes_its_own_config_and_changes_of_where_it_executes(tmp_path: Path) -> None:
    run, words = RunDir(tmp_path / "run"), tmp_path / "words.yaml"
    words.write_text("student_system: 'Sei kürzer. 😀\n\n  Zwei: \\ Zeilen'\n", encoding="utf-8")
    config = make_config(run.root, prompts=str(words))
    run.check(config)
    assert not run.config.exists()  # a check claims nothing
    run.claim(config)
    run.check(config)
    run.check(make_config(run.root, prompts=str(words), generation={"rows_per_block": 3}, training={"zero_stage": 3}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"generation": {"direct_answers": True}}, "config generation.direct_answers was False and is True; choose another run_dir"),
        ({"training": {"seed": 1, "num_epochs": 3}}, "config training.num_epochs was 1 and is 3 and 1 more; choose"),
    ],
)
def test_another_config_is_refused_with_both_values(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.claim(make_config(run.root))
    with pytest.raises(ValueError, match=expected):
        run.check(make_config(run.root, **changes))


def test_other_wording_in_the_same_prompts_file_is_refused(tmp_path: Path) -> None:
    run, words = RunDir(tmp_path / "run"), tmp_path / "words.yaml"
    words.write_text("refine: Once more.")
    run.claim(make_config(run.root, prompts=str(words)))
    words.write_text("refine: Again.")
    with pytest.raises(ValueError, match=r"prompts refine was 'Once more\.' and is 'Again\.'; choose another run_dir"):
        run.check(make_config(run.root, prompts=str(words)))


def test_a_run_directory_in_rays_copy_of_a_working_directory_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123" / "runs" / "mine"
    with pytest.raises(ValueError, match=r"run_dir .* is inside Ray's copy .*; give an absolute path on storage that all nodes share"):
        RunDir(root).check(make_config(root))
    assert not root.exists()
