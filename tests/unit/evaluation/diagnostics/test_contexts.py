"""The four contexts: the training's own token ids, the same targets, critiques of other problems, records that are held out."""

from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.evaluation.diagnostics.contexts import ATTEMPT, CRITIQUE, FOREIGN, PROBLEM, Sample, sample_contexts, targets_of
from cgd_ray.training.examples.choosing.held_out import is_held_out
from cgd_ray.training.examples.writing import make_examples
from tests.builders import read_examples, tiny_records, tiny_tokenizer, write_selected

CHAT = Chat(tiny_tokenizer())


def sample_of(selected: Path, training: TrainingConfig | None = None, max_records: int = 100, seed: int = 0) -> Sample:
    parts = [selected / "selected.parquet"]
    return sample_contexts(training or TrainingConfig(), Prompts(), CHAT, parts, max_records=max_records, seed=seed)


def varied(count: int) -> list[dict[str, Any]]:
    """Critiques that name their problem."""
    rows = tiny_records(count)
    for row in rows:
        row["critique"] = f"This is about {row['problem_id']}. {row['critique']}"
    return rows


@pytest.mark.parametrize(("context", "arm"), [(PROBLEM, "refined_only"), (ATTEMPT, "cgd_without_critique"), (CRITIQUE, "cgd")])
def test_token_ids_are_those_that_the_training_takes(tmp_path: Path, context: str, arm: Any) -> None:
    selected = write_selected(tmp_path / "selected", varied(9))
    sample = sample_of(selected, TrainingConfig(arm={"cgd": 0.5, "cft": 0.5}, critiques="generic"))
    make_examples(TrainingConfig(arm=arm), CHAT, Prompts(), selected, tmp_path / "examples")
    trained = {row["record_id"]: row for row in read_examples(tmp_path / "examples").to_pylist()}
    assert sorted(sample.record_ids) == sorted(trained)
    for name, example in zip(sample.record_ids, sample.examples[context], strict=True):
        assert (example.input_ids, example.prompt_length) == (trained[name]["input_ids"], trained[name]["prompt_length"])


def test_targets_are_the_same_in_all_contexts(tmp_path: Path) -> None:
    sample = sample_of(write_selected(tmp_path / "selected", varied(9)))
    for index in range(9):
        assert len({tuple(targets_of(examples[index])) for examples in sample.examples.values()}) == 1
    assert sample.num_targets_R.tolist() == [len(targets_of(example)) for example in sample.examples[CRITIQUE]]


def test_a_foreign_critique_is_another_problems_and_each_is_used_once(tmp_path: Path) -> None:
    rows = varied(12)
    for row in rows[::2]:
        row |= {"verdict": "right"}
    sample = sample_of(write_selected(tmp_path / "selected", rows))
    by_record = {row["record_id"]: row for row in rows}
    critiques = {row["critique"]: row for row in rows}
    assert len(critiques) == 12
    used = []
    for name, example in zip(sample.record_ids, sample.examples[FOREIGN], strict=True):
        text = CHAT.tokenizer.decode(example.input_ids)
        (donor,) = (row for critique, row in critiques.items() if critique in text)
        assert donor["problem_id"] != by_record[name]["problem_id"]
        assert donor["verdict"] == by_record[name]["verdict"]
        used.append(donor["record_id"])
    assert sorted(used) == sorted(by_record)


def test_critiques_of_a_single_problem_have_no_foreign_ones(tmp_path: Path) -> None:
    sample = sample_of(write_selected(tmp_path / "selected", tiny_records(3, problem_id="one")))
    assert list(sample.examples) == [PROBLEM, ATTEMPT, CRITIQUE]


def test_held_out_records_are_taken_where_there_are_some(tmp_path: Path) -> None:
    selected = write_selected(tmp_path / "selected", varied(60))
    training = TrainingConfig.model_validate({"validation": {"fraction": 0.3, "every_steps": 5}})
    sample = sample_of(selected, training)
    assert sample.side == "validation"
    assert 0 < len(sample.record_ids) == sample.num_records < 60
    assert all(is_held_out(name, 0.3) for name in sample.problem_ids)
    none = TrainingConfig.model_validate({"validation": {"fraction": 1e-12, "every_steps": 5}})
    assert (sample_of(selected, none).side, sample_of(selected, none).num_records) == ("training", 60)


def test_the_same_records_are_drawn_for_every_arm_and_fewer_are_a_part_of_more(tmp_path: Path) -> None:
    selected = write_selected(tmp_path / "selected", varied(30))
    few, more = (sample_of(selected, TrainingConfig(arm="refined_only", seed=7), max_records=count) for count in (8, 16))
    assert few.record_ids == more.record_ids[:8]
    assert few.record_ids == sample_of(selected, max_records=8).record_ids
    assert few.record_ids != sample_of(selected, max_records=8, seed=1).record_ids


def test_a_record_that_does_not_fit_in_one_context_is_in_none_and_counted(tmp_path: Path) -> None:
    rows = varied(9)
    rows[4]["critique"] = "Look again. " * 400
    sample = sample_of(write_selected(tmp_path / "selected", rows), TrainingConfig(context_length=600))
    assert len(sample.record_ids) == 8
    assert sample.left_out == {"over_context_length": 1}
    assert {len(examples) for examples in sample.examples.values()} == {8}


def test_dropped_records_are_not_drawn_and_without_any_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no record to diagnose: 3 no_critique"):
        sample_of(write_selected(tmp_path / "none", tiny_records(3, critique=None)))
    with pytest.raises(ValueError, match="no record was kept"):
        sample_of(write_selected(tmp_path / "dropped", tiny_records(3, drop_reason="failed")))


def test_the_digest_names_the_token_ids(tmp_path: Path) -> None:
    selected = write_selected(tmp_path / "selected", varied(6))
    other = varied(6)
    other[2]["refinement"] += " Done."
    assert sample_of(selected).digest() == sample_of(selected).digest()
    assert sample_of(selected).digest() != sample_of(write_selected(tmp_path / "other", other)).digest()
