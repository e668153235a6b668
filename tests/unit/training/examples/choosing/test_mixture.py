"""Budgets, mixes and shares: the same records for every arm, larger budgets contain smaller ones, and everything is counted."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import manifest_parts
from cgd_ray.training.examples.choosing.mixture import assign_arms, interleave, seeded_order
from cgd_ray.training.examples.preparation import Preparation, Prepared
from cgd_ray.training.examples.writing import make_examples
from tests.builders import tiny_records, tiny_tokenizer, write_selected

CHAT = Chat(tiny_tokenizer())
IDS = [f"record-{index}" for index in range(2000)]


def with_verdicts(right: int, wrong: int, missing: int = 0) -> list[dict[str, Any]]:
    rows = tiny_records(right + wrong + missing)
    for row, verdict in zip(rows, ["right"] * right + ["wrong"] * wrong + [None] * missing, strict=True):
        row["verdict"] = verdict
    return rows


def prepared(tmp_path: Path, rows: list[dict[str, Any]], **training: Any) -> tuple[list[Prepared], dict[str, Any]]:
    preparation = Preparation(TrainingConfig(**training), CHAT, Prompts(), manifest_parts(write_selected(tmp_path, rows)))
    return list(preparation), preparation.report()


def names(items: list[Prepared]) -> list[str]:
    return [item.record_id for item in items]


def test_shares_are_kept_about_and_the_same_seed_draws_the_same_arms() -> None:
    training = TrainingConfig(arm={"cgd": 0.8, "refined_only": 0.15, "cft": 0.05}, seed=3)
    arms = assign_arms(training, IDS)
    assert [round(arms.count(name) / len(IDS), 1) for name in ("cgd", "refined_only")] == [0.8, 0.2]
    assert arms.count("cft") > 50
    assert arms == assign_arms(training, IDS) != assign_arms(training.model_copy(update={"seed": 4}), IDS)


def test_a_records_arm_and_place_do_not_depend_on_which_others_there_are() -> None:
    training = TrainingConfig(arm={"cgd": 0.5, "sft": 0.5})
    assert assign_arms(training, IDS)[::7] == assign_arms(training, IDS[::7])
    all_of_them = [IDS[index] for index in seeded_order(IDS, 0)]
    some = [IDS[::7][index] for index in seeded_order(IDS[::7], 0)]
    assert [name for name in all_of_them if name in set(some)] == some


def test_an_arm_with_no_share_needs_no_columns_and_gets_no_record() -> None:
    training = TrainingConfig(arm={"cgd": 1.0, "distilled_sft": 0})
    assert training.arm_shares == {"cgd": 1.0}
    assert set(assign_arms(training, IDS)) == {"cgd"}


def test_arm_and_place_are_drawn_apart() -> None:
    arms = assign_arms(TrainingConfig(arm={"cgd": 0.5, "sft": 0.5}), IDS)
    first_half = [arms[index] for index in seeded_order(IDS, 0)[:1000]]
    assert 400 < first_half.count("cgd") < 600


@given(
    sizes=st.lists(st.integers(0, 30), min_size=2, max_size=3),
    weights=st.lists(st.integers(1, 9), min_size=3, max_size=3),
)
def test_after_any_number_of_items_the_shares_are_right_to_within_one(sizes: list[int], weights: list[int]) -> None:
    shares = {str(index): weights[index] / sum(weights[: len(sizes)]) for index in range(len(sizes))}
    queues = {name: iter([name] * size) for name, size in zip(shares, sizes, strict=True)}
    taken = list(interleave(queues, shares))
    for length in range(len(taken) + 1):
        for name, share in shares.items():
            assert abs(taken[:length].count(name) - share * length) <= 1
    assert any(taken.count(name) == size for name, size in zip(shares, sizes, strict=True))


def test_every_arm_gets_the_same_records_and_a_larger_budget_contains_a_smaller_one(tmp_path: Path) -> None:
    rows = tiny_records(40)
    arms = ["cgd", "refined_only", "sft", "distilled_sft", "cft", "cgd_without_attempt", "cgd_without_critique", {"cgd": 0.5, "sft": 0.5}]
    taken = [names(prepared(tmp_path / str(index), rows, arm=arm, max_examples=10)[0]) for index, arm in enumerate(arms)]
    assert taken == [taken[0]] * len(arms)
    more, report = prepared(tmp_path / "more", rows, max_examples=25)
    assert names(more)[:10] == taken[0]
    assert report["dropped"] == {"over_max_examples": 15}
    assert names(prepared(tmp_path / "seed", rows, max_examples=10, seed=1)[0]) != taken[0]
    assert names(prepared(tmp_path / "order", rows[::-1], max_examples=10)[0]) == taken[0]


def test_without_a_budget_all_are_taken_in_the_order_of_the_records(tmp_path: Path) -> None:
    rows = tiny_records(10)
    assert names(prepared(tmp_path, rows)[0]) == [row["record_id"] for row in rows]


def test_a_token_budget_is_filled_and_not_exceeded(tmp_path: Path) -> None:
    rows = tiny_records(30)
    items, report = prepared(tmp_path / "some", rows, max_target_tokens=300)
    assert report["target_tokens"] == sum(item.num_targets for item in items) <= 300
    everything, _ = prepared(tmp_path / "all", rows, max_examples=30)
    assert names(items) == names(everything)[: len(items)]
    assert report["target_tokens"] + everything[len(items)].num_targets > 300
    assert report["dropped"] == {"over_max_target_tokens": 30 - len(items)}


def test_a_budget_that_no_example_fits_is_refused_with_the_reason(tmp_path: Path) -> None:
    selected = write_selected(tmp_path / "selected", tiny_records(3))
    with pytest.raises(ValueError, match=r"nothing to train on for arm cgd: 3 over_max_target_tokens; .* the budget"):
        make_examples(TrainingConfig(max_target_tokens=1), CHAT, Prompts(), selected, tmp_path / "examples")


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        ({"right": 0.5, "wrong": 0.5}, {"right": 10, "wrong": 10}),
        ({"right": 0.25, "wrong": 0.75}, {"right": 5, "wrong": 15}),
        ({"right": 0.75, "wrong": 0.25}, {"right": 15, "wrong": 5}),
        ({"right": 1.0}, {"right": 20}),
        ({"right": 0.0, "wrong": 1.0}, {"wrong": 20}),
    ],
)
def test_mixes_of_one_size_have_exactly_the_shares_they_ask_for(tmp_path: Path, mix: dict[str, float], expected: dict[str, int]) -> None:
    items, report = prepared(tmp_path, with_verdicts(right=30, wrong=25, missing=5), verdict_mix=mix, max_examples=20)
    assert report["verdicts"] == {name: sum(item.verdict == name for item in items) for name in expected} == expected
    assert sum(report["dropped"].values()) == 40
    assert report["dropped"]["outside_verdict_mix"] >= 5


def test_a_mix_without_a_budget_takes_as_many_as_keep_it(tmp_path: Path) -> None:
    _, report = prepared(tmp_path, with_verdicts(right=3, wrong=40, missing=2), verdict_mix={"right": 0.5, "wrong": 0.5})
    assert report["verdicts"] == {"right": 3, "wrong": 3}
    assert report["dropped"] == {"outside_verdict_mix": 39}


def test_what_cannot_be_an_example_takes_no_place_in_a_mix_or_a_budget(tmp_path: Path) -> None:
    rows = with_verdicts(right=10, wrong=20)
    for row in rows[10:15]:
        row["refinement"] = None
    items, report = prepared(tmp_path, rows, verdict_mix={"right": 0.4, "wrong": 0.6}, max_examples=25)
    assert (len(items), report["verdicts"]) == (25, {"right": 10, "wrong": 15})
    assert report["dropped"].get("no_refinement", 0) <= 5


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_record_is_an_example_or_has_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    rows = with_verdicts(*(data.draw(st.integers(0, 8)) for _ in range(3)))
    rows += [{**row, "record_id": f"null-{index}", "critique": None} for index, row in enumerate(rows[:2])]
    budget = {name: data.draw(st.none() | st.integers(1, most)) for name, most in (("max_examples", 20), ("max_target_tokens", 400))}
    mix = data.draw(st.sampled_from([None, {"right": 0.5, "wrong": 0.5}, {"right": 1.0}]))
    context_length = data.draw(st.sampled_from([4096, 230, 190]))
    arm = data.draw(st.sampled_from(["cgd", "refined_only", {"cgd": 0.5, "cft": 0.5}]))
    items, report = prepared(tmp_path, rows, **budget, verdict_mix=mix, context_length=context_length, arm=arm)
    assert len(items) == report["examples"] == sum(report["arms"].values()) == sum(report["verdicts"].values())
    assert report["examples"] + sum(report["dropped"].values()) == len(rows)
    assert report["target_tokens"] == sum(item.num_targets for item in items)
    assert max([len(item.example.input_ids) for item in items], default=0) <= context_length


def test_the_manifest_and_the_progress_count_every_record(tmp_path: Path) -> None:
    rows = [*with_verdicts(right=8, wrong=8), *tiny_records(3, drop_reason="attempt_truncated")]
    shown: list[int] = []
    training = TrainingConfig(arm={"cgd": 0.5, "refined_only": 0.5}, max_examples=9, verdict_mix={"right": 0.5, "wrong": 0.5})
    selected = write_selected(tmp_path / "selected", rows)
    details = make_examples(training, CHAT, Prompts(), selected, tmp_path / "examples", shown.append)
    assert sum(shown) == 19
    assert details["arm"] == {"cgd": 0.5, "refined_only": 0.5}
    assert set(details["arms"]) == {"cgd", "refined_only"}
    assert (details["critiques"], details["attempt_shortened"]) == ("specific", 0)
    assert sorted(details["verdicts"].values()) == [4, 5]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"arm": "dpo"}, "'dpo' is no arm; valid here: cgd, refined_only, sft, distilled_sft, cft"),
        ({"arm": ["cgd"]}, r"\['cgd'\] is neither an arm nor shares of arms; give for instance"),
        ({"arm": {"cgd": 0.8, "rft": 0.2}}, "'rft' is no arm"),
        ({"arm": {"cgd": 0.8, "sft": 0.1}}, r"the shares \{'cgd': 0.8, 'sft': 0.1\} add up to 0.9, not to 1; change one"),
        ({"arm": {"cgd": 1.5, "sft": -0.5}}, "the share of cgd is 1.5"),
        ({"arm": {"cgd": "most"}}, "the share of cgd is 'most'"),
        ({"arm": {"cgd": True}}, "the share of cgd is True"),
        ({"arm": {}}, "add up to 0, not to 1"),
        ({"verdict_mix": {"right": 0.5}}, "the shares {'right': 0.5} add up to 0.5, not to 1"),
        ({"verdict_mix": {"right": 2.0, "wrong": -1.0}}, "the share of right is 2.0; give a number from 0 to 1"),
        ({"verdict_mix": {"missing": 1.0}}, "'missing' is no verdict; valid here: right, wrong"),
        ({"verdict_mix": "even"}, "'even' is no mapping of verdicts to shares; give for instance {right: 0.5, wrong: 0.5}"),
        ({"critiques": "shuffled", "arm": "cft"}, "critiques is shuffled, which changes what the arm cgd sees, but arm is cft; set"),
        ({"critiques": "random"}, "'specific', 'shuffled', 'generic', 'verdict_only' or 'none'"),
        ({"max_examples": 0}, "greater than or equal to 1"),
        ({"max_target_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        TrainingConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({}, "cgd"),
        ({"critiques": "generic"}, "cgd (generic critiques)"),
        ({"verdict_mix": {"right": 0, "wrong": 1}}, "cgd"),
        ({"arm": {"cgd": 0.8, "refined_only": 0.2}}, "0.8 cgd + 0.2 refined_only"),
        ({"arm": {"cgd": 0.333333, "cft": 0.333333, "sft": 0.333334}}, "0.333333 cgd + 0.333333 cft + 0.333334 sft"),
    ],
)
def test_an_arm_is_named_in_a_few_words_and_survives_being_written(settings: dict[str, Any], label: str) -> None:
    training = TrainingConfig(**settings)
    assert training.arm_label == label
    assert TrainingConfig.model_validate(training.model_dump(mode="json")) == training
