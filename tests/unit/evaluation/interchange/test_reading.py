"""Logs of each tool, and what each must not be."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.evaluation.interchange.finding import find_evaluations
from cgd_ray.evaluation.interchange.neutral import right_or_wrong
from tests.unit.evaluation.interchange.evaluations import INSPECT_LOG, LM_EVAL_RESULTS, inspect_archive, inspect_content, own_evaluation

SAMPLE = "samples/one_epoch_1.json"


def one_line(path: Path) -> str:
    """What is said of a path that is refused."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as raised:
        [list(evaluation.problems()) for evaluation in find_evaluations(path)]
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_log_that_inspect_wrote_is_read() -> None:
    (found,) = find_evaluations(INSPECT_LOG)
    assert (found.source, found.benchmark, found.model) == ("Inspect", "adding", "mockllm/model")
    assert found.settings == {
        "prompt": {
            "system_message": None,
            "1": {"solver": "system_message", "template": "You add."},
            "2": {"solver": "prompt_template", "template": "Solve: {prompt}"},
            "3": {"solver": "answer"},
        },
        "sampling": {"max_tokens": 64, "temperature": 0.5},
        "grader": {"scorer": "match", "score": "match", "options": {"numeric": True}},
        "num_samples": 2,
    }
    problems = list(found.problems())
    assert [problem.id for problem in problems] == ["p0", "p1", "p2", "p3"]
    assert [[answer.correct for answer in problem.answers] for problem in problems] == [[True] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert (problems[2].question, problems[2].reference_answer) == ("What is 2+2?", "4")
    assert (problems[2].answers[0].extracted, problems[2].answers[0].finish_reason) == ("5", "stop")
    assert str(problems[2].answers[0].text).endswith("ANSWER: 5")


def test_results_that_lm_eval_wrote_are_read_by_their_first_filter() -> None:
    for path in (LM_EVAL_RESULTS, LM_EVAL_RESULTS.parent):
        (found,) = find_evaluations(path)
        assert (found.source, found.benchmark, found.model) == ("lm-eval", "adding", "adder-2")
        assert found.settings["grader"] == {"metric": "exact_match", "filter": "strict", "task_version": 1.0}
        assert found.settings["sampling"] == {"until": ["\n"], "do_sample": True, "temperature": 0.5}
        assert found.settings["prompt"]["doc_to_text"] == "Q: {{question}}\nA:"
        problems = list(found.problems())
        assert [problem.answers[0].correct for problem in problems] == [True, True, False, False]
        assert (problems[3].id, problems[3].question, problems[3].reference_answer) == ("3", "What is 3+3?", "6")
        assert (problems[3].answers[0].text, problems[3].answers[0].extracted) == ("it is 99", "99")


def test_our_own_directory_is_read_and_a_failed_row_counts_as_wrong(tmp_path: Path) -> None:
    directory = own_evaluation(tmp_path / "sums", {"a": [True, None], "b": [False, True]})
    (found,) = find_evaluations(directory)
    first, second = found.problems()
    assert [(answer.correct, answer.graded, answer.text) for answer in first.answers] == [
        (True, True, "It is \\boxed{7}."),
        (False, False, None),
    ]
    assert [answer.correct for answer in second.answers] == [False, True]
    assert (first.id, first.question, first.reference_answer) == ("a", "What is a?", "7")


def test_all_benchmarks_of_a_model_are_found(tmp_path: Path) -> None:
    for name in ("b", "a"):
        own_evaluation(tmp_path / "base" / name, {"x": [True]}, benchmark=name)
    assert [found.benchmark for found in find_evaluations(tmp_path / "base")] == ["a", "b"]


def test_a_json_log_of_inspect_says_what_its_archive_says(tmp_path: Path) -> None:
    members = inspect_content()
    (tmp_path / "log.json").write_text(json.dumps({**members["header.json"], "samples": [members[SAMPLE]]}))
    (as_json,) = find_evaluations(tmp_path / "log.json")
    (as_archive,) = find_evaluations(inspect_archive(tmp_path / "log.eval"))
    assert list(as_json.problems()) == list(as_archive.problems())
    assert as_json.settings == as_archive.settings


@pytest.mark.parametrize(
    ("value", "verdict"),
    [("C", True), ("I", False), ("N", False), (1, True), (0.0, False), (True, True), ("yes", True), (float("nan"), None), (None, None)],
)
def test_scores_are_right_wrong_or_nothing(value: object, verdict: bool | None) -> None:
    assert right_or_wrong(value) is verdict


@pytest.mark.parametrize("value", ["P", 0.5, "perhaps", [True], {"a": 1}, float("inf")])
def test_partial_credit_is_no_verdict(value: object) -> None:
    with pytest.raises(ValueError, match="neither right nor wrong"):
        right_or_wrong(value)


def test_what_inspect_could_not_score_is_wrong_and_said_to_be_ungraded(tmp_path: Path) -> None:
    def unscored(log: dict[str, Any]) -> None:
        log[SAMPLE]["scores"]["match"]["value"] = float("nan")

    (found,) = find_evaluations(inspect_archive(tmp_path / "log.eval", unscored))
    (answer,) = next(found.problems()).answers
    assert (answer.correct, answer.graded, answer.finish_reason) == (False, False, "length")


def test_the_headline_of_several_scores_is_taken(tmp_path: Path) -> None:
    def several(log: dict[str, Any]) -> None:
        log["header.json"]["results"] = {
            "scores": [{"name": "loose", "scorer": "following"}, {"name": "strict", "scorer": "following"}],
            "headline": {"scorer": "following", "score": "strict", "metric": "accuracy"},
        }
        log[SAMPLE]["scores"] = {"following": {"value": {"loose": 1, "strict": 0}}}

    (found,) = find_evaluations(inspect_archive(tmp_path / "log.eval", several))
    assert found.settings["grader"] == {"scorer": "following", "score": "strict", "options": {}}
    assert not next(found.problems()).answers[0].correct


def broken(name: str, *keys: str, value: object = None) -> Callable[[dict[str, Any]], None]:
    """Puts a value deep into a member."""

    def change(log: dict[str, Any]) -> None:
        place = log[name]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (broken("header.json", "status", value="started"), "has status 'started', not 'success'"),
        (broken("header.json", "eval"), "is not as Inspect writes it"),
        (broken("header.json", "results"), "is not as Inspect writes it"),
        (broken("header.json", "results", "scores", value=[]), "it has no scores"),
        (broken(SAMPLE, "scores", "match", "value", value="P"), "sample 'one' is not as compared (ValueError: the score 'P'"),
        (broken(SAMPLE, "input"), "sample 'one' is not as compared"),
        (broken(SAMPLE, "output", value=[1]), "sample 'one' is not as compared"),
        (lambda log: log.pop("header.json"), "has no header.json"),
    ],
)
def test_a_log_of_inspect_that_is_not_as_inspect_writes_it_is_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    assert said in one_line(inspect_archive(tmp_path / "log.eval", change))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"filter": "strict"', '"filter": 7', "'filter' is '7', not str"),
        ('"doc_id": 0', '"doc_id": null', "'doc_id' is 'None', not int"),
        ('"exact_match": 1.0', '"exact_match": 0.25', "none of the metrics 'exact_match' says right or wrong"),
        ('"exact_match": 0.0', '"exact_match": 0.25', "line 3: the score '0.25' is neither right nor wrong"),
        ('"doc_id"', "doc_id", "line 1 holds no valid JSON"),
    ],
)
def test_samples_that_are_not_as_lm_eval_writes_them_are_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    for path in LM_EVAL_RESULTS.parent.glob("*.json*"):
        shutil.copy(path, tmp_path)
    (samples,) = tmp_path.glob("samples_*")
    text = samples.read_text()
    assert old in text
    samples.write_text(text.replace(old, new))
    assert said in one_line(tmp_path)


def test_results_without_samples_say_how_to_get_them(tmp_path: Path) -> None:
    shutil.copy(LM_EVAL_RESULTS, tmp_path)
    assert "--log_samples" in one_line(tmp_path)


def test_a_task_whose_name_leads_elsewhere_reads_nothing_there(tmp_path: Path) -> None:
    results = json.loads(LM_EVAL_RESULTS.read_text())
    results["configs"]["../../elsewhere"] = results["results"]["../../elsewhere"] = {}
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / LM_EVAL_RESULTS.name).write_text(json.dumps(results))
    (tmp_path / f"samples_x_{LM_EVAL_RESULTS.stem.removeprefix('results_')}.jsonl").write_text("{}")
    assert "so no answer can be paired" in one_line(tmp_path / "inside")


@pytest.mark.parametrize("name", ["missing", "notes.txt", "other.json", "text.eval", "empty"])
def test_what_is_no_evaluation_is_one_line_with_what_is_expected(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "text.eval").write_text("no zip")
    (tmp_path / "empty").mkdir()
    said = one_line(tmp_path / name)
    assert "expected RUN/evaluation/MODEL" in said or "no zip archive" in said


def test_an_evaluation_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    directory = own_evaluation(tmp_path / "sums", {"a": [True]})
    (directory / "manifest.json").unlink()
    assert "the evaluation is unfinished" in one_line(directory)


def test_two_models_or_two_logs_of_a_benchmark_are_not_chosen_from(tmp_path: Path) -> None:
    for name, model in (("a", "base"), ("b", "trained")):
        own_evaluation(tmp_path / "models" / name, {"x": [True]}, model=model)
        own_evaluation(tmp_path / "twice" / name, {"x": [True]})
    assert "evaluations of 'base' and of 'trained'" in one_line(tmp_path / "models")
    assert "two evaluations of 'sums', a and b" in one_line(tmp_path / "twice")
