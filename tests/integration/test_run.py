"""The whole job, for real, as users submit it: a Ray head with a token, `cgd submit`, vLLM, DeepSpeed with two workers, the export."""

import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from cgd_ray.cli import main
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.records import SELECTED_SCHEMA
from cgd_ray.evaluation.evaluate import GRADED_SCHEMA
from cgd_ray.training.observe.measurements import read_measurements
from tests.bare_vllm import bare_vllm
from tests.builders import read_parts
from tests.processes import free_port, stop

CONFIG = "jobs/configs/tinymath.yaml"
MODELS = Path("examples/tinymath/models").absolute()
NUM_PROBLEMS, NUM_EVALUATED = 48, 24
VALIDATION = "training.validation={fraction: 0.2, every_steps: 100, answers: {every_steps: 100}, choose_by: pass@1}"
SETTINGS = (
    f"problems.limit={NUM_PROBLEMS}",
    f"evaluation.problems.limit={NUM_EVALUATED}",
    # in bfloat16 a tie between two tokens falls one way or the other with the size of the batch
    "student.engine={dtype: float32}",
    "teacher.engine={dtype: float32}",
    VALIDATION,
    "training.checkpoint_every_steps=100",  # the last one alone
    "training.export=best",
)
RAY = Path(sys.executable).with_name("ray")
HEAD_START_S = 180


@dataclass(frozen=True)
class Head:
    """A Ray head of this test's own, with token authentication, and the environment that knows the token."""

    dashboard: str
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"
    log: Path


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    root = tmp_path_factory.mktemp("head")
    (root / "token").write_text(secrets.token_hex())
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(root / "token")}
    path = f"{RAY.parent}:{os.environ['PATH']}"  # jobs that `cgd submit` sends begin with `python`
    environment = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0", "PATH": path}
    ports = [free_port() for _ in range(3)]
    options = ["--port", "--dashboard-port", "--dashboard-agent-listen-port"]
    arguments = [f"{option}={port}" for option, port in zip(options, ports, strict=True)]
    with (root / "head.log").open("w") as log:
        process = subprocess.Popen(
            [RAY, "start", "--head", "--block", "--num-cpus=4", "--include-dashboard=true", *arguments],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            yield Head(dashboard=f"http://127.0.0.1:{ports[1]}", environment=environment, process=process, log=root / "head.log")
        finally:
            stop(process.pid)


@pytest.fixture(scope="module")
def finished(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory that a submitted job has finished."""
    run_dir = tmp_path_factory.mktemp("job") / "run"
    command = [sys.executable, "-m", "cgd_ray.cli", "submit", CONFIG, "--address", head.dashboard, f"run_dir={run_dir}", *SETTINGS]
    deadline = time.monotonic() + HEAD_START_S
    while "is submitted" not in (done := subprocess.run(command, env=head.environment, capture_output=True, text=True)).stdout:
        assert head.process.poll() is None, head.log.read_text()
        assert time.monotonic() < deadline, done.stderr
        assert "cannot be reached" in done.stderr, done.stderr  # while the head is still starting
        time.sleep(1)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^upload: \d+ files, \d\.\d MiB; the largest:$", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("run-run-1 has ended with exit code 0\n")
    return run_dir


def read_summary(run_dir: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return summary


def test_the_summary_of_a_submitted_job_adds_up(finished: Path) -> None:
    summary = read_summary(finished)
    records, repair, training = summary["records"], summary["repair"], summary["training"]
    assert summary["problems"] == records["written"] == NUM_PROBLEMS
    assert records["written"] == records["kept"] + records["failed"] + sum(records["dropped"].values())
    assert sum(summary["verdicts"].values()) == sum(repair.values()) == records["written"] - records["failed"]
    assert (training["arm"], training["world_size"], training["zero_stage"]) == ("cgd", 2, 2)
    metrics = [json.loads(line) for line in (finished / "training" / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/step"] for line in metrics] == list(range(1, training["steps"] + 1))
    assert sum(line["train/target_tokens"] for line in metrics) == training["target_tokens"]
    assert [metrics[place]["train/loss"] for place in (0, -1)] == [training["first_loss"], training["last_loss"]]
    for name in ("base", "trained"):
        report = summary["evaluation"][name]["problems"]
        assert (report["num_problems"], report["num_samples"]) == (NUM_EVALUATED, 1)
        graded = pq.read_table(finished / "evaluation" / name / "problems" / "graded.parquet")
        assert graded.schema.equals(GRADED_SCHEMA)
        assert report["avg@k"] == report["pass@k"]["1"] == pytest.approx(sum(graded["correct"].to_pylist()) / NUM_EVALUATED)
    assert summary["seconds"]["total"] >= sum(summary["seconds"][name] for name in ("generate", "train", "evaluate")) - 0.5


def test_records_carry_what_their_schema_promises(finished: Path) -> None:
    records = read_parts(finished / "selected")
    assert records.schema.equals(SELECTED_SCHEMA)
    for stage in ("attempt", "critique", "refinement"):
        assert len(set(records[f"{stage}_fingerprint"].to_pylist())) == 1
        assert min(records[f"{stage}_tokens"].to_pylist()) > 0


def test_greedy_through_the_pipeline_is_greedy_through_bare_vllm(finished: Path) -> None:
    rows, prompts = read_parts(finished / "records").to_pylist(), load_prompts(str(finished / "prompts.yaml"))
    student, teacher = (str(MODELS / role) for role in ("student", "teacher"))
    of_student, of_teacher = Chat.load(student), Chat.load(teacher)
    attempts = [of_student.prompt(prompts.solve_messages(row["question"], None)).input_ids for row in rows]
    assert [row["attempt"] for row in rows] == bare_vllm(student, attempts, max_tokens=128)
    rows = [row for row in rows if row["refinement"] is not None]
    assert len(rows) > NUM_PROBLEMS // 2
    critiques = [of_teacher.prompt(prompts.critique_messages(row["question"], row["attempt"])).input_ids for row in rows]
    refinements = [of_teacher.prompt(prompts.refine_messages(row["question"], row["attempt"], row["critique"])).input_ids for row in rows]
    expected = bare_vllm(teacher, critiques + refinements, max_tokens=192)
    assert [row["critique"] for row in rows] == expected[: len(rows)]
    assert [row["refinement"] for row in rows] == expected[len(rows) :]
    assert sum(row["refinement_cached_tokens"] for row in rows) > 0.5 * sum(row["critique_prompt_tokens"] for row in rows)


def test_the_same_run_from_another_copy_of_its_files_repeats_nothing(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    uploaded = yaml.safe_load((finished / "config.yaml").read_text())["student"]["model"]
    assert Path(uploaded) != MODELS / "student"

    def state() -> dict[Path, int]:
        files = [path for path in finished.rglob("*") if path.is_file() and path.parent.name != "lease" and path.name != "summary.json"]
        return {path: path.stat().st_mtime_ns for path in files}

    before, summary = state(), read_summary(finished)
    assert main(["run", CONFIG, f"run_dir={finished}", *SETTINGS]) == 0
    assert state() == before
    assert read_summary(finished) == summary
    assert "problems after" in capfd.readouterr().out


def test_the_exported_student_answers_alike_in_transformers_in_bare_vllm_and_in_the_pipeline(finished: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model, prompts = finished / "model", load_prompts(str(finished / "prompts.yaml"))
    chat = Chat.load(str(model))
    answers = pq.read_table(finished / "evaluation" / "trained" / "problems" / "graded.parquet").to_pylist()
    inputs = [chat.prompt(prompts.solve_messages(row["question"], None)).input_ids for row in answers]
    assert len(inputs) == NUM_EVALUATED
    assert [row["attempt"] for row in answers] == bare_vllm(str(model), inputs, max_tokens=128)

    causal_lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for row, input_ids in zip(answers[:8], inputs[:8], strict=True):
        output = causal_lm.generate(torch.tensor([input_ids]), max_new_tokens=128, do_sample=False)[0, len(input_ids) :]
        assert chat.tokenizer.decode(output, skip_special_tokens=True) == row["attempt"]


def test_the_last_checkpoint_has_answered_held_out_problems_beside_the_training_as_the_exported_student_answers_them(
    finished: Path,
) -> None:
    model, prompts = finished / "model", load_prompts(str(finished / "prompts.yaml"))
    (step,) = measured = read_measurements(finished / "training" / "validation.jsonl")
    assert step == read_summary(finished)["training"]["steps"] == read_summary(finished)["training"]["best_pass@1_step"]
    rows = pq.read_table(finished / "training" / "validation" / f"step-{step:08d}" / "problems" / "graded.parquet").to_pylist()
    assert len(rows) == measured[step]["num_problems"] > 0
    assert measured[step]["pass@1"] == sum(row["correct"] for row in rows) / len(rows)
    chat = Chat.load(str(model))
    inputs = [chat.prompt(prompts.solve_messages(row["question"], None)).input_ids for row in rows]
    assert [row["attempt"] for row in rows] == bare_vllm(str(model), inputs, max_tokens=128)


@pytest.mark.slow
def test_other_records_train_another_arm_without_generating(finished: Path, tmp_path: Path) -> None:
    records = (f"run_dir={tmp_path / 'cft'}", f"records={finished / 'records'}", "training.arm=cft", "evaluation=null")
    nobody_generates = ("teacher.model=/nowhere", "student.placement.gpus_per_replica=8", "teacher.placement.gpus_per_replica=8")
    settings = (*SETTINGS, *records, *nobody_generates)
    done = subprocess.run([sys.executable, "-m", "cgd_ray.cli", "run", CONFIG, *settings], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "cft")
    assert summary["training"]["arm"] == "cft"
    assert summary["evaluation"] == {"base": None, "trained": None}
    assert not (tmp_path / "cft" / "records").exists()


def test_the_jobs_api_refuses_whoever_has_no_token(head: Head, finished: Path) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{head.dashboard}/api/jobs/")  # noqa: S310
    assert refused.value.code == 401
