"""The plan: each row once an epoch, whatever the number of workers; and micro-batches whose targets are those of their examples."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from cgd_ray.config import TrainingConfig
from cgd_ray.data.rundir import manifest_parts, write_manifest
from cgd_ray.training.feed.plan import PackedPlan, StepSizes, sizes_in, sizes_of
from cgd_ray.training.feed.rows import EMPTY, PackedRows, make_batch
from tests.builders import packed_examples, random_examples

WORLD_SIZES = (1, 2, 3, 4, 5, 16)  # of which 3, 5 and 16 do not divide a batch of 8 rows in micro-batches of 2
EXAMPLES = random_examples(100)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed_examples(tmp_path_factory.mktemp("data"), TrainingConfig(context_length=100), EXAMPLES)


@pytest.fixture(scope="module")
def table(packed: Path) -> Any:
    return pq.read_table(manifest_parts(packed)[0])


def make_plan(packed: Path, world_size: int = 1, **training: Any) -> PackedPlan:
    settings = {"context_length": 100, "global_batch_size": 8, "micro_batch_size": 2, "num_epochs": 3, "logits_chunk_tokens": 20}
    return PackedPlan.make(TrainingConfig(**{**settings, **training}).spread_over(len(sizes_of(packed))), packed, world_size)


def rows_of(plan: PackedPlan, step: int) -> list[list[int]]:
    """Each rank's rows at a step."""
    return [plan.micro_batches(step, rank).ravel().tolist() for rank in range(plan.world_size)]


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_each_row_is_trained_exactly_once_an_epoch(packed: Path, table: Any, world_size: int) -> None:
    plan = make_plan(packed, world_size)
    assert table.num_rows % 8 != 0, "the last batch of an epoch should have empty places here"
    assert plan.num_steps == 3 * plan.steps_per_epoch
    for epoch in range(3):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        taken = [row for step in steps for rank_rows in rows_of(plan, step) for row in rank_rows if row != EMPTY]
        assert sorted(taken) == list(range(table.num_rows))


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("num_steps", [1, 5, 7])
def test_rows_are_spread_evenly_over_the_steps_that_are_asked_for(packed: Path, table: Any, num_steps: int, world_size: int) -> None:
    plan = make_plan(packed, world_size, steps_per_epoch=num_steps)
    taken = [[row for rank_rows in rows_of(plan, step) for row in rank_rows if row != EMPTY] for step in range(plan.num_steps)]
    assert plan.num_steps == 3 * num_steps
    for epoch in range(3):
        of_epoch = taken[epoch * num_steps : (epoch + 1) * num_steps]
        assert sorted(row for rows in of_epoch for row in rows) == list(range(table.num_rows))
        assert max(map(len, of_epoch)) - min(map(len, of_epoch)) <= 1


def test_as_many_steps_as_the_batch_size_makes_take_the_same_rows_in_the_same_order(packed: Path, table: Any) -> None:
    plain, spread = make_plan(packed), make_plan(packed, steps_per_epoch=-(-table.num_rows // 8))
    in_order = [[row for row in plan.order_SG.ravel() if row != EMPTY] for plan in (plain, spread)]
    assert in_order[0] == in_order[1]
    assert plain.num_steps == spread.num_steps


def test_more_steps_than_rows_are_refused(packed: Path, table: Any) -> None:
    with pytest.raises(ValueError, match=rf"^steps_per_epoch is 5000 and there are {table.num_rows} packed rows, .*; lower steps"):
        make_plan(packed, steps_per_epoch=5000)


def test_what_is_consumed_after_k_steps_does_not_depend_on_the_number_of_workers(packed: Path) -> None:
    plans = [make_plan(packed, world_size) for world_size in WORLD_SIZES]
    for step in range(plans[0].num_steps):
        consumed = [[row for rank_rows in rows_of(plan, step) for row in rank_rows if row != EMPTY] for plan in plans]
        assert all(rows == consumed[0] for rows in consumed)
        assert all(plan.sizes(step) == plans[0].sizes(step) for plan in plans)


def test_more_or_fewer_workers_in_the_middle_of_an_epoch_take_each_row_once(packed: Path, table: Any) -> None:
    two, three = make_plan(packed, 2, num_epochs=1), make_plan(packed, 3, num_epochs=1)
    resumed_after = two.num_steps // 2
    begun = [row for step in range(resumed_after) for rank_rows in rows_of(two, step) for row in rank_rows if row != EMPTY]
    ended = [
        row for step in range(resumed_after, three.num_steps) for rank_rows in rows_of(three, step) for row in rank_rows if row != EMPTY
    ]
    assert 0 < len(begun) < table.num_rows
    assert sorted(begun + ended) == list(range(table.num_rows))


def test_the_ranks_share_a_step_without_overlap_and_evenly(packed: Path) -> None:
    plan = make_plan(packed, world_size=4)
    for step in range(plan.num_steps):
        shares = rows_of(plan, step)
        assert [len(share) for share in shares] == [2, 2, 2, 2]
        taken = [row for share in shares for row in share if row != EMPTY]
        assert len(taken) == len(set(taken))


@pytest.mark.parametrize(("world_size", "micro_batch_size"), [(2, 1), (3, 1), (3, 2), (5, 3), (16, 2), (2, 7)])
def test_shares_that_cannot_be_even_differ_by_one_row_a_micro_batch(packed: Path, world_size: int, micro_batch_size: int) -> None:
    plan = make_plan(packed, world_size, micro_batch_size=micro_batch_size)
    filled = [[int((rows != EMPTY).sum()) for rows in plan.micro_batches(0, rank)] for rank in range(world_size)]
    counts = [count for of_rank in filled for count in of_rank]
    assert sum(counts) == 8
    assert max(counts) <= micro_batch_size
    assert max(counts) - min(counts) <= 1
    assert len({len(of_rank) for of_rank in filled}) == 1, "all ranks should take the same number of forward passes"


def test_the_order_differs_by_epoch_and_seed_and_nothing_else(packed: Path) -> None:
    plan = make_plan(packed)
    first, second = plan.order_SG[0].tolist(), plan.order_SG[plan.steps_per_epoch].tolist()
    assert first != second
    assert make_plan(packed, seed=1).order_SG[0].tolist() != first
    assert make_plan(packed, 2, micro_batch_size=1, learning_rate=1.0, num_epochs=1).order_SG[0].tolist() == first


def test_the_plans_counts_are_those_of_the_rows(packed: Path, table: Any) -> None:
    plan = make_plan(packed)
    tokens, targets = table["num_tokens"].to_pylist(), table["num_targets"].to_pylist()
    for step, order in enumerate(plan.order_SG):
        sizes_G = plan.sizes_G(step)
        assert sizes_G["num_tokens"].tolist() == [0 if row == EMPTY else tokens[row] for row in order]
        assert sizes_G["num_targets"].tolist() == [0 if row == EMPTY else targets[row] for row in order]
        squares = [0 if row == EMPTY else sum(length**2 for length in table["lengths"][row].as_py()) for row in order]
        assert plan.sizes(step) == StepSizes(tokens=sum(sizes_G["num_tokens"]), targets=sum(sizes_G["num_targets"]), squares=sum(squares))


def test_a_batch_holds_its_rows_examples_one_after_the_other(packed: Path) -> None:
    rows = PackedRows(packed)
    last = pq.read_metadata(manifest_parts(packed)[0]).num_rows - 1
    for chosen in ([0], [last, 3], [17, 16, 15]):
        names, batch = rows.record_ids(chosen), rows.batch(chosen)
        examples = [EXAMPLES[name] for name in names]
        assert batch.input_ids_1T.tolist() == [[token for example in examples for token in example.input_ids]]
        assert batch.position_ids_1T.tolist() == [[position for example in examples for position in range(len(example.input_ids))]]
        assert batch.example_lengths == [len(example.input_ids) for example in examples]
        assert batch.target_ids_N.tolist() == [token for example in examples for token in example.input_ids[example.prompt_length :]]


def test_rows_are_found_in_whatever_file_they_are(packed: Path, tmp_path: Path) -> None:
    whole, sizes = pq.read_table(manifest_parts(packed)[0]), sizes_of(packed)
    files = [tmp_path / f"packed-{number}.parquet" for number in range(-(-len(sizes) // 16))]
    for number, file in enumerate(files):
        pq.write_table(whole.slice(16 * number, 16), file, row_group_size=8)
    write_manifest(tmp_path, "test", files, {"rows": len(sizes), "rows_per_file": 16})
    assert len(files) > 2
    one, several = PackedRows(packed), PackedRows(tmp_path)
    chosen = [len(sizes) - 1, 0, 17, 15, 16]
    assert several.record_ids(chosen) == one.record_ids(chosen)
    assert torch.equal(several.batch(chosen).input_ids_1T, one.batch(chosen).input_ids_1T)


def test_rows_of_a_version_that_wrote_no_sizes_are_planned_alike(packed: Path, tmp_path: Path) -> None:
    (part,) = [part for part in manifest_parts(packed) if part.suffix == ".parquet"]
    former = tmp_path / "packed.parquet"
    former.write_bytes(part.read_bytes())
    write_manifest(tmp_path, "test", [former], {"rows": pq.read_metadata(part).num_rows})
    assert sizes_of(tmp_path).tolist() == sizes_of(packed).tolist() == sizes_in(part).tolist()
    assert np.array_equal(make_plan(tmp_path).order_SG, make_plan(packed).order_SG)
    assert PackedRows(tmp_path).record_ids([3, 17]) == PackedRows(packed).record_ids([3, 17])


def test_empty_places_add_nothing(packed: Path) -> None:
    rows = PackedRows(packed)
    alone, beside = rows.batch([3]), rows.batch([EMPTY, 3, EMPTY])
    assert torch.equal(alone.input_ids_1T, beside.input_ids_1T)
    assert torch.equal(alone.positions_N, beside.positions_N)
    assert rows.record_ids([EMPTY, 3]) == rows.record_ids([3])
    nothing = rows.batch([EMPTY, EMPTY])
    assert (nothing.input_ids_1T.shape, nothing.example_lengths, nothing.target_ids_N.numel()) == ((1, 1), [1], 0)
    assert rows.record_ids([EMPTY]) == []


def test_every_target_is_predicted_from_the_token_before_it_in_the_same_example() -> None:
    batch = make_batch(np.array([10, 11, 12, 20, 21, 30, 31, 32, 33]), np.array([3, 2, 4]), np.array([1, 2, 3]))
    assert batch.target_ids_N.tolist() == [11, 12, 33]
    assert batch.positions_N.tolist() == [0, 1, 7]
    assert batch.position_ids_1T.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3]]
