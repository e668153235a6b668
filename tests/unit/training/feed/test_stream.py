"""A plan that grows: every rank takes the steps whose files are there, in their order, and ends with the manifest."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cgd_ray.config import TrainingConfig
from cgd_ray.training.feed.rows import EMPTY
from cgd_ray.training.feed.step_writer import StepWriter, step_file
from cgd_ray.training.feed.stream import StreamPlan, StreamRows
from tests.builders import prepared_examples, random_examples

TRAINING = TrainingConfig(streaming=True, context_length=100, global_batch_size=8, micro_batch_size=2)
EXAMPLES = prepared_examples(random_examples(100))


def dealt(packed: Path, finish: bool = True) -> StepWriter:
    steps = StepWriter(TRAINING, packed, len(EXAMPLES))
    steps.add(EXAMPLES)
    steps.write(len(EXAMPLES))
    if finish:
        steps.finish(len(EXAMPLES), "made so")
    return steps


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_all_ranks_together_take_each_row_of_each_step_once(tmp_path: Path, world_size: int) -> None:
    dealt(tmp_path)
    plan, rows = StreamPlan(TRAINING, tmp_path, world_size), StreamRows(tmp_path, TRAINING.global_batch_size)
    step = 0
    while plan.has(step):
        taken = np.concatenate([plan.micro_batches(step, rank).ravel() for rank in range(world_size)])
        assert len(taken) == plan.num_micro_batches * world_size * TRAINING.micro_batch_size >= TRAINING.global_batch_size
        table = pq.read_table(step_file(tmp_path, step))
        assert rows.record_ids(taken) == [name for names in table["record_ids"].to_pylist() for name in names]
        tokens = [rows.batch(micro).input_ids_1T for rank in range(world_size) for micro in plan.micro_batches(step, rank)]
        filled = [batch.numel() for batch in tokens if batch.numel() > 1]
        assert plan.sizes(step).tokens == sum(filled) == sum(table["num_tokens"].to_pylist())
        assert plan.sizes(step).targets == sum(table["num_targets"].to_pylist())
        step += 1
    assert step == plan.num_steps > 2
    assert (plan.micro_batches(step - 1, world_size - 1) == EMPTY).any(), "the last step should have empty places here"


def test_a_plan_waits_for_the_next_step_and_for_the_end(tmp_path: Path) -> None:
    plan, answers = StreamPlan(TRAINING, tmp_path, world_size=1), list[bool]()
    steps = dealt(tmp_path, finish=False)
    num_steps = len(list(tmp_path.glob("step-*")))

    def ask() -> None:
        answers.extend(plan.has(step) for step in (0, num_steps, num_steps + 1))

    waiting = threading.Thread(target=ask, daemon=True)
    waiting.start()
    waiting.join(timeout=1)
    assert answers == [True], "it should wait for the step after the last one that is there"
    steps.finish(len(EXAMPLES), "made so")
    waiting.join(timeout=10)
    assert answers == [True, True, False]


def test_waiting_for_a_step_ends_with_the_stop_flag(tmp_path: Path) -> None:
    plan, flag = StreamPlan(TRAINING, tmp_path / "packed", world_size=1), tmp_path / "stop"
    waiting = threading.Thread(target=plan.await_step, args=(0, flag), daemon=True)
    waiting.start()
    waiting.join(timeout=0.3)
    assert waiting.is_alive()
    flag.touch()
    waiting.join(timeout=10)
    assert not waiting.is_alive()


def test_what_a_checkpoint_has_consumed_is_named_by_its_steps_alone(tmp_path: Path) -> None:
    steps = dealt(tmp_path, finish=False)
    before = [StreamPlan(TRAINING, tmp_path, 1).consumed(steps) for steps in range(3)]
    steps.finish(len(EXAMPLES), "made so")
    assert [StreamPlan(TRAINING, tmp_path, 2).consumed(steps) for steps in range(3)] == before
    assert len(set(before)) == 3
    step_file(tmp_path, 0).write_bytes(step_file(tmp_path, 1).read_bytes())
    changed: list[Any] = [StreamPlan(TRAINING, tmp_path, 1).consumed(steps) for steps in range(3)]
    assert changed[0] == before[0]
    assert all(now not in before for now in changed[1:])
    step_file(tmp_path, 0).unlink()
    assert StreamPlan(TRAINING, tmp_path, 1).consumed(2) is None
