"""Saving in the background: a checkpoint is there whole or not at all, whichever rank is late or dies."""

from pathlib import Path

import pytest
import torch

from cgd_ray.training.checkpoints.shards import Shards
from cgd_ray.training.checkpoints.store import newest
from cgd_ray.training.checkpoints.writer import Saver
from cgd_ray.training.model.zero_state import Range


def savers(directory: Path, world_size: int = 2, keep: int = 2) -> list[Saver]:
    return [Saver(directory, "mine", "attempt", rank, world_size, keep, directory / "none.jsonl") for rank in range(world_size)]


def tensors(rank: int, value: float = 0.0) -> dict[Range, torch.Tensor]:
    return {Range("weight", 4 * rank, "a"): torch.full((4,), value + rank)}


def test_a_checkpoint_holds_what_all_ranks_have_saved(tmp_path: Path) -> None:
    ranks = savers(tmp_path)
    for rank, saver in enumerate(ranks):
        saver.start(tensors(rank), {"step": 3, "validation_loss": None, "is_answered": False, "consumed": None})
    for saver in reversed(ranks):
        saver.finish()
    found = newest(tmp_path, "mine")
    assert found is not None
    assert found.step == 3
    assert Shards(found.directory).read("weight", "a", 0, 8).tolist() == [0.0] * 4 + [1.0] * 4


def test_a_checkpoint_that_lacks_a_rank_is_not_there(tmp_path: Path) -> None:
    for step in (3, 5):
        ranks = savers(tmp_path)
        ranks[0].start(tensors(0), {"step": step, "validation_loss": None, "is_answered": False, "consumed": None})
        if step == 3:
            ranks[1].start(tensors(1), {"step": step, "validation_loss": None, "is_answered": False, "consumed": None})
            ranks[0].finish()
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000003"]


def test_what_a_later_start_writes_is_not_mixed_with_an_earlier_ones_leftovers(tmp_path: Path) -> None:
    early = Saver(tmp_path, "mine", "early", 1, 2, 2, tmp_path / "none.jsonl")
    early.start(tensors(1, value=70.0), {"step": 3, "validation_loss": None, "is_answered": False, "consumed": None})
    early.finish()
    ranks = savers(tmp_path)
    for rank, saver in enumerate(ranks):
        saver.start(tensors(rank), {"step": 3, "validation_loss": None, "is_answered": False, "consumed": None})
    ranks[0].finish()
    found = newest(tmp_path, "mine")
    assert found is not None
    assert Shards(found.directory).read("weight", "a", 4, 4).tolist() == [1.0] * 4


def test_only_as_many_as_asked_are_kept(tmp_path: Path) -> None:
    (saver,) = savers(tmp_path, world_size=1, keep=1)
    for step in (1, 2, 3):
        saver.start(tensors(0), {"step": step, "validation_loss": None, "is_answered": False, "consumed": None})
        saver.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_what_went_wrong_while_writing_is_raised_by_finish(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    saver = Saver(tmp_path / "file", "mine", "attempt", 0, 1, 2, tmp_path / "none.jsonl")
    saver.start(tensors(0), {"step": 1, "validation_loss": None, "is_answered": False, "consumed": None})
    with pytest.raises(OSError, match="Not a directory"):
        saver.finish()
