"""Each student is asked every sampled problem twice, alone and as the training shows it, and nothing is asked again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config import Config
from cgd_ray.config.evaluation import DiagnosticsConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message
from cgd_ray.data.rundir import RunDir, read_json, write_manifest
from cgd_ray.evaluation.benchmarks.loading import MESSAGES
from cgd_ray.evaluation.diagnostics.conditioned import ALONE, GIVEN, Examine
from cgd_ray.evaluation.diagnostics.contexts import CRITIQUE, PROBLEM
from cgd_ray.evaluation.diagnostics.diagnose import diagnose_answers, sample_of
from cgd_ray.evaluation.evaluate import Exam
from cgd_ray.evaluation.report import Report
from cgd_ray.generation.progress import ROWS
from tests.builders import tiny_model, tiny_records, write_selected
from tests.exams import answer, next_sitting
from tests.unit.evaluation.diagnostics.test_diagnose import config_of

Asked = list[tuple[str, dict[str, Any]]]


def examined(answering: Callable[[Mapping[str, Any]], str | None], asked: Asked | None = None) -> Examine:
    """Engines that answer by a function of the row; what they are asked is added to `asked`, with the student's name."""

    def examine(name: str, exam: Exam, directory: Path) -> dict[str, Report]:
        if next_sitting(exam, directory) is not None:
            rows = answer(exam, directory, lambda row: {"attempt": answering(row)})
            if asked is not None:
                asked.extend((name, row) for row in rows)
        return exam(directory)

    return examine


def by_critique(row: Mapping[str, Any]) -> str:
    """Right where there is a critique, else nothing."""
    return f"\\boxed{{{row['reference_answer']}}}" if has_critique(row) else "No idea."


def has_critique(row: Mapping[str, Any]) -> bool:
    return len(row[MESSAGES]) > 1


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path).model_copy(update={"diagnostics": DiagnosticsConfig(max_records=6)})


def diagnosed(config: Config, examine: Examine) -> dict[str, Any] | None:
    run = RunDir(config.run_dir)
    return diagnose_answers(config, run, sample_of(config, run, Chat.of(config.student)), examine)


def found_of(config: Config, examine: Examine) -> dict[str, Any]:
    found = diagnosed(config, examine)
    assert found is not None
    return found


def test_accuracy_with_and_without_the_critique_are_paired(config: Config) -> None:
    run = RunDir(config.run_dir)
    write_selected(run.selected, tiny_records(6))
    found = found_of(config, examined(by_critique))
    base = found["students"]["base"]
    assert (base[ALONE]["accuracy"], base[GIVEN]["accuracy"], base["difference"]) == (0.0, 1.0, 1.0)
    assert base["difference_interval"][0] > 0
    assert base["p"] == pytest.approx(2 * 0.5**6)  # McNemar: six of six one way
    assert (base["better"], base["worse"]) == (6, 0)
    assert found == read_json(run.diagnostics / "conditioned.json")


def test_what_is_asked_is_what_the_training_shows(config: Config) -> None:
    run, chat, asked = RunDir(config.run_dir), Chat.of(config.student), Asked()
    write_selected(run.selected, tiny_records(6))
    found_of(config, examined(by_critique, asked))
    sample = sample_of(config, run, chat)
    prompts = {tuple(chat.prompt(messages_of(row)).input_ids) for _, row in asked}
    shown = {tuple(one.input_ids[: one.prompt_length]) for context in (PROBLEM, CRITIQUE) for one in sample.examples[context]}
    assert prompts == shown
    assert sum(has_critique(row) for _, row in asked) == len(asked) // 2 == 6


def messages_of(row: Mapping[str, Any]) -> list[Message]:
    return [Message(**message) for message in row[MESSAGES]]


def test_answers_are_greedy_whatever_the_student_drew_its_attempts_with(config: Config) -> None:
    drawing = config.student.model_copy(update={"sampling": config.student.sampling.model_copy(update={"temperature": 1.0})})
    write_selected(RunDir(config.run_dir).selected, tiny_records(3))
    temperatures = list[float]()

    def examine(name: str, exam: Exam, directory: Path) -> Mapping[str, Report]:
        temperatures.append(exam.role.sampling.temperature)
        return examined(by_critique)(name, exam, directory)

    found_of(config.model_copy(update={"student": drawing}), examine)
    assert temperatures == [0.0]


def test_the_trained_student_is_asked_once_it_is_there_and_the_other_not_again(config: Config) -> None:
    run, asked = RunDir(config.run_dir), Asked()
    write_selected(run.selected, tiny_records(6))
    before = found_of(config, examined(by_critique, asked))
    write_manifest(tiny_model(run.model, seed=1), "test", [run.model / "model.safetensors"], {})
    after = found_of(config, examined(by_critique, asked))
    assert after["students"]["base"] == before["students"]["base"]
    assert list(after["students"]) == ["base", "trained"]
    assert [name for name, _ in asked] == ["base"] * 12 + ["trained"] * 12


def test_other_records_are_asked_anew_and_the_answers_to_the_former_go(config: Config) -> None:
    run = RunDir(config.run_dir)
    write_selected(run.selected, tiny_records(6))
    assert found_of(config, examined(by_critique))["problems"] == 6
    fewer = config.model_copy(update={"diagnostics": DiagnosticsConfig(max_records=4)})
    assert found_of(fewer, examined(by_critique))["problems"] == 4
    assert len(list((run.diagnostics / "answers").glob("base-*"))) == 1


def test_a_problem_of_several_records_is_asked_once(config: Config) -> None:
    rows = tiny_records(6)
    for row in rows[3:]:
        row["problem_id"] = rows[0]["problem_id"]
    write_selected(RunDir(config.run_dir).selected, rows)
    assert found_of(config, examined(by_critique))["problems"] == 3


def test_nothing_is_asked_without_reference_answers(config: Config) -> None:
    run, asked = RunDir(config.run_dir), Asked()
    rows = tiny_records(6)
    write_selected(run.selected, [{**row, "reference_answer": None} for row in rows[:5]] + rows[5:])
    assert found_of(config, examined(by_critique, asked))["problems"] == 1
    write_selected(run.selected, [{**row, "reference_answer": None} for row in rows])
    assert diagnosed(config, examined(by_critique, asked)) is None
    assert len(asked) == 2
    assert not (run.diagnostics / "conditioned.json").exists()


def test_failed_answers_are_wrong_and_counted(config: Config) -> None:
    write_selected(RunDir(config.run_dir).selected, tiny_records(4))

    def examine(name: str, exam: Exam, directory: Path) -> Mapping[str, Report]:
        answer(exam, directory, lambda row: {"error": "attempt: too long", "attempt": None} if has_critique(row) else {"attempt": "1"})
        told: list[int] = []
        reports = exam(directory, lambda counts, estimate: told.append(counts[f"student{ROWS}"]))
        assert told == [], "no engine is left anything to do"
        return reports

    base = found_of(config, examine)["students"]["base"]
    assert (base[GIVEN]["failed"], base[ALONE]["failed"], base[GIVEN]["accuracy"]) == (1.0, 0.0, 0.0)
