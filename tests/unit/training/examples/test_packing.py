"""Packing: first-fit-decreasing as its definition says, every example whole and once, and the same rows every time."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Example
from cgd_ray.data.rundir import read_manifest
from cgd_ray.process.spreading import in_turn, spread
from cgd_ray.training.examples.bins import BINS_PER_BLOCK, first_fit_decreasing
from cgd_ray.training.examples.example_files import ExampleFiles
from cgd_ray.training.examples.packing import PACKED_SCHEMA, ROWS_PER_GROUP, SIZES, Packing, pack
from tests.builders import packed_examples, random_examples, read_parts

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


def bins_of(lengths: list[int], capacity: int) -> list[list[int]]:
    bins = first_fit_decreasing(lengths, capacity)
    return [bins.part(number, number + 1).members_E.tolist() for number in range(len(bins))]


@settings(deadline=None)  # a busy machine is no defect
@given(LENGTHS)
def test_bins_are_those_of_the_naive_algorithm(lengths: list[int]) -> None:
    assert bins_of(lengths, CAPACITY) == naive_first_fit_decreasing(lengths, CAPACITY)


@settings(deadline=None)
@given(LENGTHS)
def test_every_example_is_in_one_bin_and_no_bin_overflows(lengths: list[int]) -> None:
    bins = bins_of(lengths, CAPACITY)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in members) <= CAPACITY for members in bins)


@pytest.mark.parametrize("length", [0, CAPACITY + 1])
def test_an_example_that_fits_into_no_row_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"example 1 has {length} tokens, which does not fit into rows of {CAPACITY}"):
        first_fit_decreasing([5, length], CAPACITY)


def test_rows_hold_the_examples_whole_and_once_with_their_prompts_and_ids(tmp_path: Path) -> None:
    examples = random_examples(150)
    table = read_parts(packed_examples(tmp_path, TrainingConfig(context_length=100), examples))
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
    assert manifest["rows"] == read_parts(packed).num_rows
    assert manifest["fill"] == pytest.approx(tokens / (manifest["rows"] * 100))


def test_the_same_examples_make_the_same_bytes(tmp_path: Path) -> None:
    packed_examples(tmp_path, TrainingConfig(context_length=100), random_examples(60))
    pack(100, tmp_path / "examples", tmp_path / "again")
    assert (tmp_path / "again" / "packed-00000.parquet").read_bytes() == (tmp_path / "packed" / "packed-00000.parquet").read_bytes()


def test_the_rows_do_not_depend_on_the_order_in_which_the_examples_come(tmp_path: Path) -> None:
    training, examples = TrainingConfig(context_length=100), random_examples(60)
    one, other = (
        packed_examples(tmp_path / name, training, order)
        for name, order in (("one", examples), ("other", dict(reversed(examples.items()))))
    )
    assert (one / "packed-00000.parquet").read_bytes() == (other / "packed-00000.parquet").read_bytes()


def test_the_first_token_of_an_example_without_prompt_is_no_target(tmp_path: Path) -> None:
    packed = packed_examples(tmp_path, TrainingConfig(context_length=8), {"bare": Example(input_ids=[5, 6, 7], prompt_length=0)})
    (row,) = read_parts(packed).to_pylist()
    assert (row["prompt_lengths"], row["num_targets"]) == ([1], 2)


def test_the_index_and_the_sizes_say_what_the_files_hold(tmp_path: Path) -> None:
    packed = packed_examples(tmp_path, TrainingConfig(context_length=100), random_examples(60))
    table, sizes = read_parts(packed), np.load(packed / SIZES)
    squares = [sum(length**2 for length in row) for row in table["lengths"].to_pylist()]
    expected = zip(table["num_tokens"].to_pylist(), table["num_targets"].to_pylist(), squares, strict=True)
    assert sizes.tolist() == list(expected)


def test_files_hold_as_many_rows_each_and_all_processes_write_the_same(tmp_path: Path, ray_local: None) -> None:
    one_file = read_parts(packed_examples(tmp_path, TrainingConfig(context_length=100), random_examples(150)))
    index = ExampleFiles(tmp_path / "examples").index_E
    bins = first_fit_decreasing(index["num_tokens"], 100)
    np.save(tmp_path / "members.npy", bins.members_E)
    np.save(tmp_path / "ends.npy", bins.ends_B)
    for name, work in (("here", in_turn), ("everywhere", spread)):
        (tmp_path / name).mkdir()
        outputs = [tmp_path / name / f"{number}.parquet" for number in range(3)]
        list(work(Packing, (tmp_path / "examples", tmp_path, 20, outputs), 3))
        tables = [pq.read_table(output) for output in outputs]
        assert [table.num_rows for table in tables] == [20, 20, one_file.num_rows - 40]
        assert pa.concat_tables(tables).equals(one_file)


def test_bins_beyond_the_first_block_are_found_too() -> None:
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(13, CAPACITY + 1, 2 * BINS_PER_BLOCK + 50).tolist(), *rng.integers(1, 12, 6000).tolist()]
    bins = bins_of(lengths, CAPACITY)
    assert len(bins) > 2 * BINS_PER_BLOCK
    free = np.full(len(bins), CAPACITY)
    placed = {index: number for number, members in enumerate(bins) for index in members}
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        assert placed[index] == np.flatnonzero(free >= lengths[index])[0]
        free[placed[index]] -= lengths[index]
