"""Checkpoints: the newest one that is whole, undamaged and of this very training is taken; anything else is skipped or refused."""

from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config import TrainingConfig
from cgd_ray.training.checkpoints import NO_EFFECT, directory_of, fingerprint, make_room, newest, prune, publish
from tests.builders import packed_examples, random_examples, tiny_model


def write_state(checkpoints: Path, step: int, content: bytes = b"state") -> Path:
    directory = directory_of(checkpoints, step)
    make_room(directory)
    (directory / "state").mkdir()
    (directory / "state" / "rank0.pt").write_bytes(content)
    return directory


def save(checkpoints: Path, step: int, name: str = "mine", world_size: int = 2, zero_stage: int = 2) -> Path:
    directory = write_state(checkpoints, step)
    publish(directory, step, name, world_size, zero_stage)
    return directory


def newest_step(checkpoints: Path) -> int | None:
    found = newest(checkpoints, "mine", world_size=2, zero_stage=2)
    return None if found is None else found.step


def test_the_newest_checkpoint_is_found(tmp_path: Path) -> None:
    assert newest_step(tmp_path) is None
    for step in (9, 10, 100):
        directory = save(tmp_path, step)
    found = newest(tmp_path, "mine", world_size=2, zero_stage=2)
    assert found is not None
    assert (found.step, found.directory) == (100, directory)


def test_a_torn_newest_falls_back_to_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 5)
    write_state(tmp_path, 10)  # the writer died before it could publish
    assert newest_step(tmp_path) == 5


def test_a_damaged_byte_falls_back_to_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (save(tmp_path, 10) / "state" / "rank0.pt").write_bytes(b"stale")  # of the same size
    assert newest_step(tmp_path) == 5


def test_a_shortened_or_missing_file_falls_back_to_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (save(tmp_path, 10) / "state" / "rank0.pt").write_bytes(b"sta")
    (save(tmp_path, 15) / "state" / "rank0.pt").unlink()
    assert newest_step(tmp_path) == 5


def test_no_checkpoint_is_taken_when_all_are_damaged(tmp_path: Path) -> None:
    (save(tmp_path, 5) / "state" / "rank0.pt").write_bytes(b"stale")
    assert newest_step(tmp_path) is None


def test_saving_a_step_again_leaves_nothing_of_the_torn_one(tmp_path: Path) -> None:
    (write_state(tmp_path, 5) / "state" / "rank1.pt").write_bytes(b"torn")
    directory = save(tmp_path, 5)
    assert [path.name for path in (directory / "state").iterdir()] == ["rank0.pt"]
    assert newest_step(tmp_path) == 5


def test_two_complete_checkpoints_are_kept_and_whatever_else_there_is_goes(tmp_path: Path) -> None:
    for step in (1, 2, 3, 5):
        save(tmp_path, step)
        prune(tmp_path, step)
    assert sorted(tmp_path.iterdir()) == [directory_of(tmp_path, step) for step in (3, 5)]
    write_state(tmp_path, 6)  # torn
    (save(tmp_path, 9) / "state" / "rank0.pt").write_bytes(b"stale")
    save(tmp_path, 7)  # resumed from 5
    prune(tmp_path, 7)
    assert sorted(tmp_path.iterdir()) == [directory_of(tmp_path, step) for step in (5, 7)]


def test_a_step_that_is_saved_again_stays_beside_the_one_before(tmp_path: Path) -> None:
    for step in (2, 4, 4, 6):
        save(tmp_path, step)
        prune(tmp_path, step)
    assert sorted(tmp_path.iterdir()) == [directory_of(tmp_path, step) for step in (4, 6)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"name": "theirs"}, "made from other data, model or settings .fingerprint theirs, this training's is mine.*to train anew"),
        ({"world_size": 4}, "made with training.num_workers=4, now it is 2"),
        ({"zero_stage": 3}, "made with training.zero_stage=3, now it is 2"),
    ],
    ids=["fingerprint", "world_size", "zero_stage"],
)
def test_a_checkpoint_of_another_training_is_refused_and_not_skipped(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10, **other)
    with pytest.raises(ValueError, match=message):
        newest_step(tmp_path)


def test_the_fingerprint_follows_settings_data_and_model_and_not_where_it_runs(tmp_path: Path) -> None:
    training = TrainingConfig(context_length=100)
    model = tiny_model(tmp_path / "model")
    packed, other_packed = (packed_examples(tmp_path / str(seed), training, random_examples(9, seed=seed)) for seed in (0, 1))
    mine = fingerprint(training, str(model), packed)
    assert fingerprint(training.model_copy(update={"learning_rate": 1e-3}), str(model), packed) != mine
    assert fingerprint(training, str(model), other_packed) != mine
    assert fingerprint(training, str(tiny_model(tmp_path / "larger", num_hidden_layers=3)), packed) != mine
    elsewhere = {"num_workers": 8, "cpus_per_worker": 4.0, "max_failures": 9, "checkpoint_every_steps": 7, "use_gpu": True, "zero_stage": 3}
    assert elsewhere.keys() == set(NO_EFFECT)
    assert fingerprint(training.model_copy(update=elsewhere), str(model), packed) == mine
