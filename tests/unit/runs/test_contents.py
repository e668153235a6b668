"""A run belongs to what it was made from: the same models, problems and wording may lie elsewhere than before, others may not."""

import json
import shutil
from pathlib import Path

import pytest

from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir
from cgd_ray.problems.work_list import write_work_list
from cgd_ray.runs.contents import contents_of
from cgd_ray.runs.work_lists import make_work_lists

MODEL = Path("examples/tinymath/models/student").absolute()


def upload(root: Path) -> Path:
    """What a submitted job finds in its working directory."""
    shutil.copytree(MODEL, root / "model")
    (root / "template.jinja").write_text("{{ messages[0].content }}")
    (root / "words.yaml").write_text("refine: Once more.")
    for name in ("problems", "more", "benchmark", "held_out"):
        (root / f"{name}.jsonl").write_text(json.dumps({"question": f"one of {name}", "answer": "1"}) + "\n")
    return root


def config_of(root: Path, run_dir: Path) -> Config:
    fields = {"fields": {"reference_answer": "answer"}}
    role = {"model": str(root / "model"), "chat_template": str(root / "template.jinja")}
    problems = {
        "path": str(root / "problems.jsonl"),
        "mix": [{"path": str(root / "more.jsonl"), **fields}],
        "decontaminate": {"against": [{"path": str(root / "benchmark.jsonl"), **fields}]},
        **fields,
    }
    evaluation = {"problems": {"path": str(root / "held_out.jsonl"), **fields}}
    tree = {"run_dir": str(run_dir), "student": role, "teacher": role, "prompts": str(root / "words.yaml")}
    return Config.model_validate({**tree, "problems": problems, "evaluation": evaluation})


def begin(config: Config) -> None:
    """Up to where the stages begin."""
    run = RunDir(config.run_dir)
    run.claim(config, contents_of(config))
    for path, work in make_work_lists("run", config, run, [])[0].items():
        write_work_list(work, path)


def go_on(config: Config, command: str = "run") -> list[str]:
    """What a command checks before it goes on; returns the questions that it goes on with."""
    run = RunDir(config.run_dir)
    run.check(config, contents_of(config))
    lists, _ = make_work_lists(command, config, run, [])
    return [question for work in lists.values() for question in work["question"].to_pylist()]


@pytest.mark.parametrize("command", ["run", "generate", "train", "evaluate"])
def test_a_run_goes_on_from_another_copy_of_its_working_directory(command: str, tmp_path: Path) -> None:
    first, second = upload(tmp_path / "first"), upload(tmp_path / "second")
    begin(config_of(first, tmp_path / "run"))
    shutil.rmtree(first)
    assert go_on(config_of(second, tmp_path / "run"), command) == ["one of problems", "one of more", "one of held_out"]


@pytest.mark.parametrize("command", ["run", "train"])
@pytest.mark.parametrize(
    ("changed", "content", "refusal"),
    [
        ("template.jinja", "other", "belongs to another config: config student.chat_template was"),
        ("words.yaml", "refine: Again.", "belongs to another config: prompts refine was 'Once more.' and is 'Again.'"),
        ("problems.jsonl", '{"question": "another", "answer": "1"}\n', "the problems differ from those in .*/work_list.parquet"),
        ("more.jsonl", '{"question": "another", "answer": "1"}\n', "the problems differ from those in .*/work_list.parquet"),
        ("benchmark.jsonl", '{"question": "one of more", "answer": "1"}\n', "the problems differ from those in .*/work_list.parquet"),
        ("held_out.jsonl", '{"question": "another", "answer": "1"}\n', "the problems differ from those in .*/evaluation/problems.parquet"),
    ],
)
def test_what_has_changed_on_the_way_is_refused(changed: str, content: str, refusal: str, command: str, tmp_path: Path) -> None:
    first, second = upload(tmp_path / "first"), upload(tmp_path / "second")
    begin(config_of(first, tmp_path / "run"))
    (second / changed).write_text(content)
    with pytest.raises(ValueError, match=refusal):
        go_on(config_of(second, tmp_path / "run"), command)


def test_a_model_with_other_weights_is_another_model(tmp_path: Path) -> None:
    first, second = upload(tmp_path / "first"), upload(tmp_path / "second")
    begin(config_of(first, tmp_path / "run"))
    weights = second / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[8 + int.from_bytes(content[:8], "little")] ^= 1  # the first byte behind the header
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"config student.model was .*/first/model' and is .*/second/model' and 1 more; choose another"):
        go_on(config_of(second, tmp_path / "run"))


def test_a_run_of_an_older_version_goes_on_where_its_paths_are_the_same(tmp_path: Path) -> None:
    config = config_of(upload(tmp_path / "first"), tmp_path / "run")
    begin(config)
    RunDir(config.run_dir).contents.unlink()
    go_on(config)
    with pytest.raises(ValueError, match=r"config student.model was"):
        go_on(config_of(upload(tmp_path / "second"), tmp_path / "run"))
