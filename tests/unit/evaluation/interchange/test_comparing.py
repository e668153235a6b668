"""Two evaluations on the same problems."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.evaluation.comparing import compare_evals, compare_evaluations
from cgd_ray.evaluation.interchange.exporting import export_evaluation
from cgd_ray.evaluation.statistics.paired import compare_paired
from tests.unit.evaluation.interchange.evaluations import INSPECT_LOG, LM_EVAL_RESULTS, SETTINGS, evaluation, own_evaluation, problem


def compared_ids(first: list[Any], second: list[Any]) -> set[tuple[str, str]]:
    """Which problems were paired, told by making every pair flip."""
    found = compare_evaluations(evaluation(first, path="a"), evaluation(second, path="b"))
    assert found["num_problems"] == len(found["gained"])
    return {(flip["problem_id"], flip["problem_id_b"]) for flip in found["gained"]}


def test_the_numbers_are_those_of_the_paired_comparison() -> None:
    grades_a = {str(place): (place < 12,) for place in range(30)}
    grades_b = {str(place): (4 <= place < 22,) for place in range(30)}
    sides = [[problem(name, *right) for name, right in grades.items()] for grades in (grades_a, grades_b)]
    found = compare_evaluations(evaluation(sides[0], path="a"), evaluation(sides[1], path="b"))
    expected = compare_paired(grades_a, grades_b)
    assert (found["a"]["accuracy"], found["b"]["accuracy"], found["difference"]) == pytest.approx((0.4, 0.6, 0.2))
    assert (found["interval"], found["p_value"]) == ([expected.interval.low, expected.interval.high], expected.p_value)
    assert [flip["problem_id"] for flip in found["lost"]] == ["0", "1", "2", "3"]
    assert len(found["gained"]) == 10
    assert json.loads(json.dumps(found)) == found


def test_only_problems_of_both_count_and_the_others_are_told() -> None:
    first = [problem("a", True), problem("b", False), problem("only", True)]
    found = compare_evaluations(evaluation(first, path="a"), evaluation([problem("b", True), problem("a", True)], path="b"))
    assert (found["num_problems"], found["a"]["not_in_common"], found["b"]["not_in_common"]) == (2, 1, 0)
    assert found["a"]["accuracy"] == 0.5


def test_ids_pair_what_asks_the_same() -> None:
    assert compared_ids(
        [problem("a", False, question="What is\n 1?"), problem("b", False)], [problem("a", True, question="What is 1?"), problem("b", True)]
    ) == {("a", "a"), ("b", "b")}


def test_questions_pair_what_two_tools_name_differently() -> None:
    first = [problem("x", False, question="What is 1?"), problem("y", False, question="What is 2?")]
    second = [problem("0", True, question="What is 2?"), problem("1", True, question="What is 1?")]
    assert compared_ids(first, second) == {("x", "1"), ("y", "0")}


def test_an_id_that_is_a_mere_place_pairs_nothing_else_than_its_question() -> None:
    """The second file lacks the first's first line, so each id is another problem."""
    first = [problem(str(place), False, question=f"What is {place}?") for place in range(4)]
    second = [problem(str(place), True, question=f"What is {place + 1}?") for place in range(3)]
    assert compared_ids(first, second) == {("1", "0"), ("2", "1"), ("3", "2")}


def test_a_question_that_comes_twice_is_paired_twice() -> None:
    first = [problem(name, False, question="What is 1?") for name in "ab"]
    second = [problem(name, True, question="What is 1?") for name in "cd"]
    assert compared_ids(first, second) == {("a", "c"), ("b", "d")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grader": "exact"}, "grader is 'boxed-math' in a and 'exact' in b"),
        ({"num_samples": 4}, "num_samples is 1 in a and 4 in b"),
        ({"sampling": {**SETTINGS["sampling"], "temperature": 0.0}}, "sampling.temperature is 0.7 in a and 0.0 in b"),
        ({"sampling": {}}, "sampling.temperature is 0.7 in a and None in b"),
        ({"prompt": {"solve": "{problem} Think."}}, "prompt.solve is '{problem}' in a and '{problem} Think.' in b"),
    ],
)
def test_what_was_not_evaluated_alike_is_refused_with_both_values(change: dict[str, Any], said: str) -> None:
    alike = {**SETTINGS, "grader": "boxed-math", "num_samples": 1}
    first, second = evaluation([problem("a", True)], path="a", **alike), evaluation([problem("a", True)], path="b", **{**alike, **change})
    with pytest.raises(ValueError, match="evaluate both alike") as raised:
        compare_evaluations(first, second)
    assert said in str(raised.value)


def test_long_prompts_are_shown_where_they_part() -> None:
    prompts = [{"solve": f"{'Think. ' * 100}{end}"} for end in ("Box it.", "Say it.")]
    first, second = (evaluation([problem("a", True)], path=name, prompt=prompt) for name, prompt in zip("ab", prompts, strict=True))
    with pytest.raises(ValueError, match=r"prompt\.solve is …\S* .*Box it\.' in a and …\S* .*Say it\.' in b"):
        compare_evaluations(first, second)


def test_a_seed_only_draws_other_answers_and_is_no_other_decoding() -> None:
    first, second = (evaluation([problem("a", True)], path=name, sampling={"temperature": 1.0, "seed": ord(name)}) for name in "ab")
    assert compare_evaluations(first, second)["num_problems"] == 1


def test_what_one_tool_has_not_recorded_is_told() -> None:
    first, second = evaluation([problem("a", True)], path="a", grader="exact"), evaluation([problem("a", True)], path="b")
    assert compare_evaluations(first, second)["settings_not_recorded"] == ["prompt", "sampling", "grader", "num_samples"]


def test_two_tools_ask_and_grade_differently() -> None:
    with pytest.raises(ValueError, match=r"evaluated with lm-eval and .*adding\.eval with Inspect, which ask and grade differently"):
        compare_evals(LM_EVAL_RESULTS, INSPECT_LOG, print)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([problem("z", True, question="Else?")], "a and b have no problem in common"),
        ([problem("a", True, True)], "num_samples is 1 in a and 2 in b"),
        ([problem("a", True, reference="8")], "the reference answer of problem 'a' is '7' in a and '8' in b"),
        ([problem("a", True), problem("a", True)], "b has the problem 'a' twice"),
        ([problem("a", True), problem("c", True, False)], "b has 2 answers to the problem 'c' and 1 to 'a'"),
        ([], "b has no problems"),
    ],
)
def test_problems_that_cannot_be_paired_are_one_line(second: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        compare_evaluations(evaluation([problem("a", False)], path="a"), evaluation(second, path="b"))


def test_a_table_and_the_flips_are_said_line_by_line(tmp_path: Path) -> None:
    own_evaluation(tmp_path / "base", {"one": [False], "two": [True], "\x1b[2Jred": [None]})
    own_evaluation(tmp_path / "trained", {"one": [True], "two": [True], "\x1b[2Jred": [True], "more": [True]}, model="trained")
    lines: list[str] = []
    assert compare_evals(tmp_path / "base", tmp_path / "trained", lines.append) == 0
    said = "\n".join(lines)
    assert f"A: base ({tmp_path}/base, cgd_ray)\nB: trained ({tmp_path}/trained, cgd_ray)\n" in said
    assert "sums       3         33.3%  100.0%  +66.7" in said
    assert "sums, B answers better: ?[2Jred, one" in said
    assert "not graded, and counted as wrong, of A's answers: 1" in said
    assert "not in the other evaluation, and left out, of B's problems: 1" in said
    assert "\x1b" not in said


def test_an_export_compares_with_the_evaluation_that_it_came_from(tmp_path: Path) -> None:
    base = own_evaluation(tmp_path / "base", {"one": [False, True], "two": [True, True]})
    trained = own_evaluation(tmp_path / "trained", {"one": [True, True], "two": [True, True]}, model="trained")
    sides = [trained, *(export_evaluation(trained, form, tmp_path / form)[0] for form in ("lm-eval", "inspect"))]  # type: ignore[arg-type]
    said = []
    for side in sides:
        lines: list[str] = []
        compare_evals(base, side, lines.append)
        said.append(lines[2:])
    assert said[0] == said[1] == said[2]


def test_benchmarks_of_both_are_compared_one_by_one(tmp_path: Path) -> None:
    for model, benchmarks in (("base", ("gsm", "math")), ("trained", ("math", "gsm", "aime")), ("other", ("qa", "rc"))):
        for benchmark in benchmarks:
            own_evaluation(tmp_path / model / benchmark, {"one": [True]}, model=model, benchmark=benchmark)
    lines: list[str] = []
    compare_evals(tmp_path / "base", tmp_path / "trained", lines.append)
    assert [line.split()[0] for line in lines[2:5]] == ["benchmark", "gsm", "math"]
    with pytest.raises(ValueError, match=r"base has gsm, math and .*other has qa, rc; evaluate both on one benchmark"):
        compare_evals(tmp_path / "base", tmp_path / "other", print)
