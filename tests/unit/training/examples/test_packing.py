"""Packing: first-fit-decreasing as its definition says, every example whole and once, and the same rows every time."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Example
from cgd_ray.data.rundir import manifest_parts, read_manifest
from cgd_ray.training.examples.packing import PACKED_SCHEMA, ROWS_PER_GROUP, first_fit_decreasing, pack
from tests.builders import packed_examples, random_examples

CAPACITY = 24
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=60)


def naive_first_fit_decreasing(lengths: list[int], capacity: int) -> list[list[int]]:
    """The definition: longest first, each into the first bin with room."""
    bins: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        for members in bins:
            if sum(lengths[member] for member in members) + lengths[index] <= capacity:
                members.append(index)
                break
        else:
            bins.append([index])
    return bins


@settings(deadline=None)  # a busy machine is no defect
@given(LENGTHS)
def test_bins_are_those_of_the_naive_algorithm(lengths: list[int]) -> None:
    assert first_fit_decreasing(lengths, CAPACITY) == naive_first_fit_decreasing(lengths, CAPACITY)


@settings(deadline=None)
@given(LENGTHS)
def test_every_example_is_in_one_bin_and_no_bin_overflows(lengths: list[int]) -> None:
    bins = first_fit_decreasing(lengths, CAPACITY)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in members) <= CAPACITY for members in bins)


@pytest.mark.parametrize("length", [0, CAPACITY + 1])
def test_an_example_that_fits_into_no_row_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"example 1 has {length} tokens, which does not fit into rows of {CAPACITY}"):
        first_fit_decreasing([5, length], CAPACITY)


def test_rows_hold_the_examples_whole_and_once_with_their_prompts_and_ids(tmp_path: Path) -> None:
    examples = random_examples(150)
    (part,) = manifest_parts(packed_examples(tmp_path, TrainingConfig(context_length=100), examples))
    table = pq.read_table(part)
    assert table.schema.equals(PACKED_SCHEMA)
    assert table.num_rows > 2 * ROWS_PER_GROUP
    found: dict[str, Example] = {}
    for row in table.to_pylist():
        ends = [sum(row["lengths"][: index + 1]) for index in range(len(row["lengths"]))]
        for name, length, prompt_length, end in zip(row["record_ids"], row["lengths"], row["prompt_lengths"], ends, strict=True):
            assert name not in found
            found[name] = Example(input_ids=row["input_ids"][end - length : end], prompt_length=prompt_length)
        assert row["num_tokens"] == len(row["input_ids"]) == sum(row["lengths"]) <= 100
        assert row["num_targets"] == row["num_tokens"] - sum(row["prompt_lengths"])
    assert found == examples


def test_the_report_and_the_manifest_count_what_was_written(tmp_path: Path) -> None:
    examples = random_examples(40)
    packed = packed_examples(tmp_path, TrainingConfig(context_length=100), examples)
    manifest = read_manifest(packed)
    assert manifest is not None
    tokens = sum(len(example.input_ids) for example in examples.values())
    assert (manifest["examples"], manifest["tokens"], manifest["fingerprint"]) == (40, tokens, "test")
    assert manifest["target_tokens"] == tokens - sum(example.prompt_length for example in examples.values())
    assert manifest["rows"] == pq.read_metadata(manifest_parts(packed)[0]).num_rows
    assert manifest["fill"] == pytest.approx(tokens / (manifest["rows"] * 100))


def test_the_same_examples_make_the_same_bytes(tmp_path: Path) -> None:
    packed_examples(tmp_path, TrainingConfig(context_length=100), random_examples(60))
    pack(100, tmp_path / "examples", tmp_path / "again")
    assert (tmp_path / "again" / "packed.parquet").read_bytes() == (tmp_path / "packed" / "packed.parquet").read_bytes()


def test_the_rows_do_not_depend_on_the_order_in_which_the_examples_come(tmp_path: Path) -> None:
    training, examples = TrainingConfig(context_length=100), random_examples(60)
    one, other = (
        packed_examples(tmp_path / name, training, order)
        for name, order in (("one", examples), ("other", dict(reversed(examples.items()))))
    )
    assert (one / "packed.parquet").read_bytes() == (other / "packed.parquet").read_bytes()


def test_the_first_token_of_an_example_without_prompt_is_no_target(tmp_path: Path) -> None:
    packed = packed_examples(tmp_path, TrainingConfig(context_length=8), {"bare": Example(input_ids=[5, 6, 7], prompt_length=0)})
    (row,) = pq.read_table(manifest_parts(packed)[0]).to_pylist()
    assert (row["prompt_lengths"], row["num_targets"]) == ([1], 2)
