"""What a comparison says: differences to the reference, corrected for their number, and what each arm cost."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cgd_ray.comparison.costs import cost_of_records
from cgd_ray.comparison.results import Answers, check_alike
from cgd_ray.comparison.rows import Condition, compared, sentence
from cgd_ray.comparison.table import tables
from cgd_ray.config import Config
from cgd_ray.evaluation.statistics.paired import compare_paired
from tests.unit.comparison.standins import TOKENS

NUM_PROBLEMS = 60


def answers(num_right: int, seed: int = 0, **report: Any) -> dict[str, Answers]:
    """Some right answers, chosen by the seed."""
    right = np.zeros(NUM_PROBLEMS, dtype=bool)
    right[np.random.default_rng(seed).permutation(NUM_PROBLEMS)[:num_right]] = True
    content = {"num_samples": 1, "num_problems": NUM_PROBLEMS, "truncated": 0.0, "unboxed": 0.25, "failed": 0.0, **report}
    return {"p": Answers(report=content, problem_ids=tuple(map(str, range(NUM_PROBLEMS))), correct_PN=right[:, None])}


def condition(arm: str, *right: int, setting: str = "lr1e-4") -> Condition:
    """An arm with so many right answers from each of its seeds."""
    models = [answers(num_right, seed) for seed, num_right in enumerate(right)]
    return Condition(arm=arm, setting=setting, seeds=tuple(range(len(right))), answers=models, costs={})


BASE = Condition(arm="base", setting="", seeds=(), answers=[answers(20)], costs={})


def test_with_one_seed_a_row_is_the_paired_comparison_and_says_what_is_not_known() -> None:
    rows = compared([BASE, condition("sft", 30), condition("cgd", 50)], "cgd")
    paired = compare_paired(answers(50)["p"].by_problem_id, answers(30)["p"].by_problem_id)
    assert (rows[1]["difference"], rows[1]["p"]) == (paired.difference, paired.p_value)
    assert rows[1]["difference_interval"] == [paired.interval.low, paired.interval.high]
    assert sentence(rows, "cgd").endswith("with 1 seed, what another training would give is unknown.")


def test_several_arms_are_corrected_for_each_other_and_the_reference_is_not_tested() -> None:
    rows = compared([BASE, condition("sft", 30, 31, 32), condition("cft", 10, 9, 11), condition("cgd", 50, 51, 49)], "cgd")
    tested = [row for row in rows if row["p"] is not None]
    assert [row["name"] for row in tested] == ["base", "sft", "cft"]
    assert all(row["p_holm"] >= row["p"] for row in tested)
    assert max(row["p_holm"] / row["p"] for row in tested) == pytest.approx(3)
    assert "1 seed" not in sentence(rows, "cgd")


def test_each_setting_has_its_own_reference_and_the_untrained_student_then_none() -> None:
    rates = [("lr1e-4", 50), ("lr1e-5", 30)]
    conditions = [condition(arm, right, right + 1, setting=rate) for rate, right in rates for arm in ("sft", "cgd")]
    rows = compared([BASE, *conditions], "cgd")
    assert [(row["name"], row["difference"]) for row in rows] == [
        ("base", None),
        ("sft lr1e-4", 0.0),
        ("cgd lr1e-4", None),
        ("sft lr1e-5", 0.0),
        ("cgd lr1e-5", None),
    ]


def test_the_tables_have_a_line_for_each_arm_and_no_column_out_of_place() -> None:
    rows = compared([BASE, condition("sft", 30, 31), condition("cgd", 50, 51)], "cgd")
    lines = list(tables(rows, "cgd", "USD"))
    assert lines[0].startswith("p, 60 problems, in % and points")
    assert len({len(line) for line in lines[1:5]}) == 1
    assert [line.split()[0] for line in lines[2:5]] == ["base", "sft", "cgd"]
    assert "USD" in lines[7]


@pytest.mark.parametrize(
    ("report", "what"),
    [
        ({"num_problems": 59, "content_sha256": "fewer"}, "59 problems, the untrained student with 60 problems"),
        ({"grader": "exact"}, "the grader exact, the untrained student with the grader boxed-math"),
        ({"content_sha256": "others"}, "problems of SHA-256 others, the untrained student with problems of SHA-256 these"),
        ({"num_samples": 2}, "num_samples 2, the untrained student with num_samples 1"),
    ],
)
def test_evaluations_that_are_not_alike_are_refused(report: dict[str, Any], what: str) -> None:
    alike: dict[str, Any] = {"grader": "boxed-math", "content_sha256": "these"}
    base = answers(20, **alike)
    check_alike("cgd-seed0", answers(30, **alike), base)
    with pytest.raises(ValueError, match=f"cgd-seed0 was evaluated on p with {what}; remove its"):
        check_alike("cgd-seed0", answers(30, **{**alike, **report}), base)


def test_evaluations_of_other_problems_or_of_none_are_refused_each_in_a_line_of_its_own() -> None:
    base = answers(20)
    other = replace(base["p"], problem_ids=("elsewhere", *base["p"].problem_ids[1:]))
    with pytest.raises(ValueError, match=r"cgd-seed0 and the untrained student were asked different problems of p \(only one of them was"):
        check_alike("cgd-seed0", {"p": other}, base)
    turned = replace(base["p"], problem_ids=base["p"].problem_ids[::-1])
    with pytest.raises(ValueError, match=r"different problems of p \(in another order\); remove"):
        check_alike("cgd-seed0", {"p": turned}, base)
    with pytest.raises(ValueError, match="cgd-seed0 was not evaluated on p, the untrained student was; remove its evaluation"):
        check_alike("cgd-seed0", {}, base)


def test_an_arm_is_charged_with_the_turns_that_its_examples_were_made_from() -> None:
    teacher = {"model": "t", "placement": {"gpus_per_replica": 2}}
    config = Config.model_validate({"run_dir": "r", "problems": {"path": "p"}, "student": {"model": "s"}, "teacher": teacher})
    made = {"tokens": TOKENS, "engine_seconds": {"student": 10.0, "teacher": 60.0}}
    arms = ("sft", "distilled_sft", "cft", "refined_only", "cgd", "cgd-none")
    costs = {arm: cost_of_records(arm, made, 6.0, config) for arm in arms}
    assert {arm: cost["teacher_tokens"] for arm, cost in costs.items()} == {
        "sft": 0, "distilled_sft": 200, "cft": 300, "refined_only": 400, "cgd": 400, "cgd-none": 400,
    }  # fmt: skip
    assert {arm: cost["cost"] for arm, cost in costs.items()} == {
        "sft": 0.0, "distilled_sft": 2.0, "cft": 3.0, "refined_only": 4.0, "cgd": 4.0, "cgd-none": 4.0,
    }  # fmt: skip
    assert (costs["cgd"]["engine_seconds"], costs["cgd"]["gpu_seconds"]) == (10.0 + 40.0, 80.0)
    assert cost_of_records("cgd", made, None, config)["cost"] is None
