"""The command line refuses what cannot work before anything begins: exit code 2, one line that names the cause, nothing written."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cgd_ray.cli import main
from cgd_ray.data.durable import ALWAYS_THERE
from cgd_ray.data.records import RECORD_SCHEMA, RECORDS_VERSION
from cgd_ray.data.rundir import write_manifest
from tests.builders import tiny_model

ANSWERS = "training.validation={fraction: 0.9, every_steps: 2, answers: {every_steps: 2}}"
QUESTIONS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(3)]


class Job:
    """A config that would work, in a directory of its own, to be spoiled by one change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_dir = root / "run"
        self.model = tiny_model(root / "model")
        self.problems = root / "problems.jsonl"
        self.write(QUESTIONS)
        role = {"model": str(self.model), "context_length": 512, "sampling": {"max_tokens": 8}}
        source = {"path": str(self.problems), "fields": {"reference_answer": "answer"}}
        tree = {"run_dir": str(self.run_dir), "problems": source, "student": role, "teacher": role, "training": {"global_batch_size": 1}}
        self.config = root / "config.yaml"
        self.config.write_text(yaml.safe_dump(tree))

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.problems.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(self, *overrides: str, command: str = "run") -> int:
        return main([command, str(self.config), *overrides])


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def remove_template(job: Job) -> None:
    (job.model / "chat_template.jinja").unlink()


def remove_tokenizer(job: Job) -> None:
    for file in job.model.glob("tokenizer*"):
        file.unlink()


def add_remote_code(job: Job) -> None:
    config = json.loads((job.model / "config.json").read_text())
    (job.model / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": {"AutoModel": "evil.py"}}))


def write_records(job: Job, columns: Sequence[str] = RECORD_SCHEMA.names, version: int = RECORDS_VERSION) -> None:
    directory = job.root / "records"
    directory.mkdir()
    schema = pa.schema([RECORD_SCHEMA.field(name) for name in columns])
    pq.write_table(schema.empty_table(), directory / "part.parquet")
    write_manifest(directory, "made so", [directory / "part.parquet"], {"version": version})


def block_run_dir(job: Job) -> None:
    job.run_dir.write_text("a file, where a directory should be made")


SPOILED: dict[str, tuple[Callable[[Job], object], list[str], str]] = {
    "missing file": (lambda job: job.problems.unlink(), [], "problems.path .*problems.jsonl does not exist; give a file"),
    "wrong column": (lambda job: None, ["problems.fields.question=qestion"], "'qestion', which .* lacks; did you mean 'question'"),
    "duplicate ids": (
        lambda job: job.write([{**row, "id": 7} for row in QUESTIONS]),
        ["problems.fields.problem_id=id"],
        "rows 1 and 2 have the same id '7'; correct one of them",
    ),
    "empty question": (lambda job: job.write([*QUESTIONS, {"question": " "}]), [], "row 4: column 'question' is ' '"),
    "no problems": (lambda job: job.write([]), [], "holds no problems"),
    "broken JSON": (lambda job: job.problems.write_text("{"), [], "row 1: no valid JSON"),
    "nested too deep": (lambda job: job.problems.write_text("[" * 100_000), [], "row 1: JSON that is nested too deep to be read; correct"),
    "an endless integer": (
        lambda job: job.problems.write_text('{"question": "a", "answer": ' + "9" * 5000 + "}"),
        [],
        "row 1: an integer of more than 4,300 digits",
    ),
    "several answers": (
        lambda job: job.write([*QUESTIONS, {"question": "Which?", "answer": ["1", "2"]}]),
        [],
        "row 4: column 'answer' holds a list of 2 answers, .*; correct or remove the row, or set on_bad_row to drop",
    ),
    "a split that a file has not": (lambda job: None, ["problems.split=test"], "problems.split is 'test', and path .* is a single file"),
    "an alternative that does not match": (
        lambda job: None,
        ["problems.reference_answer_pattern='a|(b)'"],
        "reference_answer_pattern 'a.\\(b\\)' matches nothing in row 1",
    ),
    "a config of a model that is a list": (
        lambda job: (job.model / "config.json").write_text("[]"),
        [],
        "config.json holds list, not an obj",
    ),
    "a variable that is not there": (lambda job: None, ["records=$NOWHERE_AT_ALL/x"], "records is .* no variable 'NOWHERE_AT_ALL'; set it"),
    "a template's argument": (
        lambda job: None,
        ["student.chat_template_kwargs={add_generation_prompt: false}"],
        "student: chat_template_kwargs.add_generation_prompt is False; .*: remove it",
    ),
    "unknown key": (lambda job: None, ["training.lerning_rate=1"], "unknown setting training.lerning_rate; did you mean learning_rate"),
    "no value": (lambda job: None, ["training.learning_rate"], "'training.learning_rate' is not of the form a.b=c"),
    "broken YAML": (lambda job: None, ['run_dir="\\s"'], "no valid YAML .*put it in single quotes"),
    "two owners": (lambda job: None, ["training.deepspeed={optimizer: {}}"], "training.deepspeed: optimizer is {}; it is AdamW"),
    "no chat template": (remove_template, [], "has no chat template; add chat_template.jinja"),
    "no tokenizer": (remove_tokenizer, [], "has no tokenizer"),
    "model's own code": (add_remote_code, [], "asks to run its own code"),
    "no model": (lambda job: shutil.rmtree(job.model), [], "student.model .* does not exist"),
    "small context": (lambda job: None, ["student.context_length=4"], "student.context_length 4 is too small: .* make [0-9]+; raise it"),
    "unwritable run directory": (block_run_dir, [], "run_dir .* is not writable"),
    "wording without its data": (
        lambda job: (job.root / "words.yaml").write_text("solve: Solve it."),
        ["prompts=WORDS"],
        r"template solve lacks \{question\}",
    ),
    "nothing to train on yet": (lambda job: None, ["train"], "run `cgd generate` with the same config first"),
    "nothing to evaluate": (lambda job: None, ["evaluate"], "evaluation is null"),
    "no such records": (lambda job: None, ["records=/nowhere/records"], "holds no records"),
    "records of another version": (lambda job: write_records(job, version=2), ["records=RECORDS"], "of version 2, .* reads .* version 1"),
    "records of something else": (
        lambda job: write_records(job, ["question"]),
        ["records=RECORDS"],
        "not what cgd_ray writes: .* is missing",
    ),
    "records without what the arm reads": (
        lambda job: write_records(job, ALWAYS_THERE),
        ["records=RECORDS", "training.arm=distilled_sft"],
        "training.arm is distilled_sft, .* the records have no direct; generate with generation.direct_answers=true",
    ),
    "parameters offloaded without their shards": (
        lambda job: None,
        ["training.offload=parameters", "training.zero_stage=2"],
        "offload parameters needs zero_stage 3 or more, zero_stage is 2",
    ),
    "a warm-up longer than the training": (
        lambda job: None,
        ["training.warmup_fraction=1.5"],
        "warmup_fraction is 1.5: .* less than or equal to 1",
    ),
    "answers that cannot be graded": (
        lambda job: None,
        ["problems.fields.reference_answer=null", "training.checkpoint_every_steps=2", ANSWERS],
        "training.validation.answers has nothing to grade: of 3 problems",
    ),
    "a selection that cannot be graded": (
        lambda job: None,
        ["problems.fields.reference_answer=null", "selection.keep=verified"],
        "selection.keep verified grades answers, and none of the 3 problems has a reference answer; map problems.fields.reference",
    ),
    "an evaluation that cannot be graded": (
        lambda job: None,
        ["evaluation.problems.path=PROBLEMS"],
        "^cgd: evaluation grades answers, and none .*; map evaluation.problems.fields.reference_answer, or leave evaluation out",
    ),
    "a wrong column of the evaluation": (
        lambda job: None,
        ["evaluation.problems.path=PROBLEMS", "evaluation.problems.fields={reference_answer: anser}"],
        "evaluation.problems.fields.reference_answer names column 'anser', .* did you mean 'answer'",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_cannot_work_is_refused_in_one_line_and_nothing_is_written(name: str, job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, overrides, expected = SPOILED[name]
    spoil(job)
    command = overrides[0] if overrides and overrides[0] in {"train", "evaluate"} else "run"
    paths = {"WORDS": str(job.root / "words.yaml"), "RECORDS": str(job.root / "records"), "PROBLEMS": str(job.problems)}
    overrides = [
        re.sub("=(WORDS|RECORDS|PROBLEMS)$", lambda found: f"={paths[found[1]]}", override) for override in overrides if override != command
    ]
    assert job.run(*overrides, command=command) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cgd: ")
    assert re.search(expected, line), line
    files = [path for path in job.run_dir.rglob("*") if path.is_file()] if job.run_dir.is_dir() else []
    written = [path for path in files if path.name != "driver.log" and path.parent.name != "lease"]
    assert written == []


def test_a_training_does_not_ask_for_the_source_once_the_work_list_is_there(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    from cgd_ray.config import load_config
    from cgd_ray.data.rundir import RunDir
    from cgd_ray.problems.work_list import write_work_list
    from cgd_ray.runs.work_lists import make_work_lists

    config, run = load_config(job.config), RunDir(job.run_dir)
    for path, work in make_work_lists("generate", config, run, [])[0].items():
        write_work_list(work, path)
    job.problems.unlink()
    assert job.run(command="train") == 2
    assert "holds no selected records to train on; run `cgd generate`" in capfd.readouterr().err
    assert job.run("student.model=/nowhere", command="generate") == 2
    shown = capfd.readouterr()
    assert re.search(r"problems.jsonl does not exist; .*; the run goes on with the problems that it began with", shown.out + shown.err)


def test_files_of_different_columns_are_refused_in_one_line(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    (job.root / "parts").mkdir()
    for name, further in (("a", {}), ("b", {"level": "hard"})):
        (job.root / "parts" / f"{name}.jsonl").write_text("".join(json.dumps({**row, **further}) + "\n" for row in QUESTIONS))
    assert job.run(f"problems.path={job.root / 'parts'}") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search("parts holds files of different columns: b.jsonl has 'level' and a.jsonl has not; give one of them", line)


@pytest.mark.slow  # a Ray of its own; tests/unit/cluster/test_capacity.py has the arithmetic
def test_more_gpus_than_the_cluster_has_are_refused_with_the_arithmetic(job: Job) -> None:
    teacher = ["teacher.placement.min_replicas=2", "teacher.placement.max_replicas=2", "teacher.placement.gpus_per_replica=4"]
    overrides = [*teacher, "cluster.num_cpus=8"]
    command = [sys.executable, "-m", "cgd_ray.cli", "run", str(job.config), *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    expected = "generate needs 8 GPUs (student.placement.min_replicas 1 x 0 + teacher.placement.min_replicas 2 x 4), the cluster has 0"
    assert done.stderr.startswith(f"cgd: {expected}")
    assert not (job.run_dir / "config.yaml").exists()


def test_a_run_directory_of_another_config_is_refused_and_left_as_it_is(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    from cgd_ray.config import load_config
    from cgd_ray.data.rundir import RunDir

    run = RunDir(job.run_dir)
    run.check(load_config(job.config))
    run.claim(load_config(job.config))
    before = run.config.read_bytes()
    assert job.run("training.learning_rate=0.5") == 2
    assert "config training.learning_rate was 1e-06 and is 0.5; choose another run_dir" in capfd.readouterr().err
    (job.root / "words.yaml").write_text("revise: 'Look: {critique}'")
    assert job.run(f"prompts={job.root / 'words.yaml'}") == 2
    assert "choose another run_dir" in capfd.readouterr().err
    assert run.config.read_bytes() == before


def test_help_and_config_import_nothing_heavy(job: Job) -> None:
    for arguments in (["--help"], ["config", str(job.config)]):
        code = (
            "import sys; from cgd_ray.cli import main\n"
            f"try: main({arguments!r})\n"
            "except SystemExit: pass\n"
            "print('HEAVY', {'torch', 'ray', 'vllm', 'transformers', 'deepspeed', 'pyarrow'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "HEAVY set()"


def test_the_driver_of_a_run_needs_no_torch() -> None:
    code = "import sys, cgd_ray.runs.run; print('HEAVY', {'torch', 'vllm', 'transformers', 'deepspeed', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY set()"


def test_config_prints_a_config_that_resolves_to_the_same(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    assert job.run("training.seed=5", command="config") == 0
    printed = capfd.readouterr().out
    assert "# Peak rate." in printed
    (job.root / "printed.yaml").write_text(printed)
    assert main(["config", str(job.root / "printed.yaml")]) == 0
    assert capfd.readouterr().out == printed


def test_a_plan_of_what_cannot_work_ends_as_a_refusal_and_is_written_all_the_same(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    cluster, written = job.root / "cluster.yaml", job.root / "plan.json"
    cluster.write_text("nodes: [{gpu: H100, gpus: 1, cpus: 16, memory_gib: 64}]")
    command = ["plan", str(job.config), "--cluster", str(cluster), "--output", str(written)]
    assert main(command) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("plan: fits; ")
    assert main([*command, "training.use_gpu=true", "training.num_workers=2"]) == 2
    assert "training.num_workers=1" in capfd.readouterr().out
    assert json.loads(written.read_text())["findings"][0]["refuses"]
    assert not job.run_dir.exists()


def test_a_plan_without_a_model_or_for_an_unknown_gpu_is_one_line(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    cluster = job.root / "cluster.yaml"
    cluster.write_text("nodes: [{gpu: H1000, gpus: 1, cpus: 16, memory_gib: 64}]")
    assert main(["plan", str(job.config), "--cluster", str(cluster)]) == 2
    assert main(["plan", str(job.config), f"student.model={job.root}"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "nearest: H100" in lines[0]
    assert "config.json cannot be read" in lines[1]
