"""Checkpoints answer held-out problems beside the training, by real engines; what goes wrong there neither holds it up nor ends it."""

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from cgd_ray.config import RoleConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.evaluation.held_out import HeldOutExam
from cgd_ray.grading.grader import Grader
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.training.checkpoints.export import export_checkpoint
from cgd_ray.training.checkpoints.store import checked, directory_of
from cgd_ray.training.driver import train
from cgd_ray.training.job import TrainJob
from cgd_ray.training.measuring import measuring
from cgd_ray.training.observe.measurements import Measurement, read_measurements
from tests.builders import packed_examples
from tests.trainings import make_training

pytestmark = pytest.mark.slow  # test_run.py has a checkpoint answer held-out problems by default

STUDENT = Path("examples/tinymath/models/student").absolute()
PROMPTS = load_prompts("examples/tinymath/prompts.yaml")
NUM_PROBLEMS, MAX_TOKENS = 8, 96


@dataclass(frozen=True)
class Steps:
    """An Answer without a model: the share is a function of the step, and one step fails, after having waited for a file."""

    broken: int | None = None
    waits_for: Path | None = None

    def __call__(self, model: str, directory: Path) -> dict[str, Any]:
        while self.waits_for is not None and not self.waits_for.exists():
            time.sleep(0.02)
        step = int(directory.name.removeprefix("step-"))
        assert (Path(model) / "model.safetensors").exists()
        if step == self.broken:
            raise ValueError(f"no memory\nfor step {step}")
        return {"model": model, "pass@1": step / 10}


@dataclass(frozen=True)
class LastByEngine:
    """The exam for step 2 alone; the student of step 1 gets nothing right, without the start of an engine."""

    exam: HeldOutExam

    def __call__(self, model: str, directory: Path) -> dict[str, Any]:
        return self.exam(model, directory) if directory.name == "step-00000002" else {"pass@1": 0.0}


@pytest.fixture(scope="module")
def problems() -> list[dict[str, Any]]:
    lines = Path("examples/tinymath/data/train.jsonl").read_text(encoding="utf-8").splitlines()[: NUM_PROBLEMS * 3]
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, problems: list[dict[str, Any]], ray_local: Any) -> tuple[TrainJob, dict[str, Any]]:
    """Two steps of the tiny student on a few solutions, the second answered by vLLM; the job and the training's report."""
    root, chat = tmp_path_factory.mktemp("real"), Chat.load(str(STUDENT))
    examples: dict[str, Example] = {
        row["problem_id"]: chat.example(PROMPTS.solve_messages(row["question"], None), row["reference_solution"])
        for row in problems[NUM_PROBLEMS:]
    }
    training = make_training(
        context_length=512,
        num_epochs=1,
        global_batch_size=2,
        learning_rate=1e-3,
        num_workers=1,
        warmup_fraction=0.0,
        checkpoint_every_steps=1,
        keep_checkpoints=2,
        export="best",
        validation={"fraction": 0.1, "every_steps": 1, "answers": {"every_steps": 1}, "choose_by": "pass@1"},
    )
    packed = packed_examples(root / "training", training, examples)
    held_out = packed_examples(root / "validation", training, examples)
    work_list = root / "work_list.parquet"
    write_work_list(make_work_list(pa.Table.from_pylist(problems[:NUM_PROBLEMS], schema=PROBLEM_SCHEMA), 1), work_list)
    student = RoleConfig.model_validate(
        {
            "model": str(STUDENT),
            "context_length": 512,
            "sampling": {"max_tokens": MAX_TOKENS},
            "engine": {"dtype": "float32"},  # in bfloat16 a tie between two tokens falls one way or the other
        }
    )
    exam = HeldOutExam(student=student, prompts=PROMPTS, work_list=work_list, grading_timeout_s=5)
    job = TrainJob(
        training=training.model_dump(mode="json"),
        model=str(STUDENT),
        packed=str(packed),
        checkpoints=str(root / "checkpoints"),
        metrics=str(root / "metrics.jsonl"),
        export_to=str(root / "model"),
        validation=str(held_out),
    )
    return job, train(job, examine=LastByEngine(exam))


def test_what_is_recorded_for_a_checkpoint_is_what_its_student_answers(
    real: tuple[TrainJob, dict[str, Any]], problems: list[dict[str, Any]], tmp_path: Path
) -> None:
    job, report = real
    lines = read_measurements(job.measurements_file)
    assert list(lines) == [1, 2]
    assert report["validation_pass@1"] == {step: line["pass@1"] for step, line in lines.items()}
    assert lines[2]["num_problems"] == NUM_PROBLEMS
    assert lines[2]["pass@1"] > 0
    newest = checked(directory_of(Path(job.checkpoints), 2))
    export_checkpoint(job, newest, tmp_path / "model")
    causal_lm, chat = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32), Chat.load(str(tmp_path / "model"))
    answers = []
    for row in problems[:NUM_PROBLEMS]:
        ids = chat.prompt(PROMPTS.solve_messages(row["question"], None)).input_ids
        output = causal_lm.generate(torch.tensor([ids]), max_new_tokens=MAX_TOKENS, do_sample=False)[0, len(ids) :]
        answers.append((chat.tokenizer.decode(output, skip_special_tokens=True), row["reference_answer"]))
    graded = pq.read_table(job.measurements_file.with_suffix("") / newest.directory.name / "problems" / "graded.parquet").to_pylist()
    assert sorted(row["attempt"] for row in graded) == sorted(answer for answer, _ in answers)
    with Grader(timeout_s=5) as grader:
        assert lines[2]["pass@1"] == sum(map(bool, grader.grade(answers))) / NUM_PROBLEMS


def test_the_student_of_the_best_answers_is_exported(real: tuple[TrainJob, dict[str, Any]], tmp_path: Path) -> None:
    job, report = real
    best = report["best_pass@1_step"]
    assert (best, report["best_validation_pass@1"]) == (2, read_measurements(job.measurements_file)[2]["pass@1"])
    export_checkpoint(job, checked(directory_of(Path(job.checkpoints), best)), tmp_path / "model")
    exported, again = (Path(directory) / "model.safetensors" for directory in (job.export_to, tmp_path / "model"))
    assert exported.read_bytes() == again.read_bytes()
    assert f"these weights are those after step {best}" in (Path(job.export_to) / "README.md").read_text()


def saved_steps(job: TrainJob) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in Path(job.checkpoints).glob("step-*"))


def test_a_failure_is_a_line_with_its_reason_and_an_interruption_leaves_the_rest_to_the_next_start(
    real: tuple[TrainJob, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(Path(real[0].checkpoints), tmp_path / "checkpoints")
    shutil.copy(real[0].metrics, tmp_path)
    job = replace(real[0], checkpoints=str(tmp_path / "checkpoints"), metrics=str(tmp_path / "metrics.jsonl"))
    told: list[Measurement] = []
    assert saved_steps(job) == [1, 2]
    with pytest.raises(KeyboardInterrupt), measuring(job, Steps(waits_for=tmp_path / "never"), told.append):
        raise KeyboardInterrupt
    assert (told, read_measurements(job.measurements_file)) == ([], {})
    with measuring(job, Steps(broken=1), told.append):
        pass  # the training has ended before anything is measured
    assert (
        told
        == list(read_measurements(job.measurements_file).values())
        == [{"step": 1, "problem": "for step 1"}, {"step": 2, "pass@1": 0.2}]
    )
    assert [path.name for path in sorted((tmp_path / "validation").iterdir())] == ["step-00000001", "step-00000002", "tensorboard"]
    assert not list(tmp_path.glob("validation/*/model"))
    with measuring(job, Steps(broken=2), told.append):
        pass  # there is nothing left
    assert len(told) == 2
