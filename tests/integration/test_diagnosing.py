"""`cgd diagnose` for real: the embedded student is scored, and answers with and without critiques as bare vLLM answers the same words."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.rundir import RunDir, write_manifest
from tests.bare_vllm import bare_vllm
from tests.builders import read_parts

CONFIG = "jobs/configs/tinymath.yaml"
STUDENT = Path("examples/tinymath/models/student").absolute()
NUM_PROBLEMS, NUM_ASKED = 24, 12
SETTINGS = (
    f"problems.limit={NUM_PROBLEMS}",
    f"diagnostics.max_records={NUM_ASKED}",
    # in bfloat16 a tie between two tokens falls one way or the other with the size of the batch
    "student.engine={dtype: float32}",
    "teacher.engine={dtype: float32}",
)
PATIENCE_S = 900


def cgd(command: str, run_dir: Path) -> str:
    arguments = [sys.executable, "-m", "cgd_ray.cli", command, CONFIG, f"run_dir={run_dir}", *SETTINGS]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(run: RunDir, student: str, paper: str) -> dict[str, dict[str, Any]]:
    (directory,) = (run.diagnostics / "answers").glob(f"{student}-*")
    rows = pq.read_table(directory / paper / "graded.parquet").to_pylist()
    return {row["problem_id"]: row for row in rows}


@pytest.mark.slow  # tests/unit/evaluation/diagnostics has the same with answers that are made up
def test_real_engines_answer_what_the_training_shows_and_nothing_twice(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    cgd("generate", run.root)
    shutil.copytree(STUDENT, run.model)  # a training that has changed nothing
    write_manifest(run.model, "test", [run.model / "model.safetensors"], {})
    assert "given a critique" in cgd("diagnose", run.root)

    records = {row["problem_id"]: row for row in read_parts(run.selected).to_pylist()}
    chat, prompts = Chat.load(str(STUDENT)), load_prompts(str(run.prompts))
    shown = {
        "alone": lambda row: prompts.solve_messages(row["question"], prompts.student_system),
        "given_critique": lambda row: prompts.revise_messages(row["question"], row["attempt"], row["critique"]),
    }
    for paper, conversation in shown.items():
        of_base, of_trained = (answers(run, student, paper) for student in ("base", "trained"))
        assert len(of_base) == NUM_ASKED
        inputs = [chat.prompt(conversation(records[name])).input_ids for name in of_base]
        assert [row["attempt"] for row in of_base.values()] == bare_vllm(str(STUDENT), inputs, max_tokens=128)
        assert of_trained == of_base

    found = json.loads((run.diagnostics / "conditioned.json").read_text())
    assert found["students"]["base"]["given_critique"]["failed"] == 0.0
    parts = sorted((run.diagnostics / "answers").rglob("graded.parquet"))
    before = [part.stat().st_mtime_ns for part in parts]
    cgd("diagnose", run.root)
    assert [part.stat().st_mtime_ns for part in parts] == before
    assert json.loads((run.diagnostics / "conditioned.json").read_text()) == found
