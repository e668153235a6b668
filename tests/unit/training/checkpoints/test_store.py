"""Checkpoints: the newest one that is whole, undamaged and of this very training is taken; anything else is skipped or refused."""

from pathlib import Path

import pytest

from cgd_ray.config import TrainingConfig, ValidationConfig
from cgd_ray.data.rundir import file_sha256
from cgd_ray.training.checkpoints.store import (
    NO_EFFECT,
    awaited,
    best,
    checked,
    directory_of,
    fingerprint,
    newest,
    publish,
    remove_leftovers,
)
from cgd_ray.training.checkpoints.store import prune as prune_by
from cgd_ray.training.observe.measurements import MeasurementsByStep
from tests.builders import packed_examples, random_examples, tiny_model

STATE = "rank-00000.safetensors"


def write_state(checkpoints: Path, step: int, content: bytes = b"state") -> Path:
    directory = checkpoints / f".step-{step:08d}.attempt.tmp"
    directory.mkdir(parents=True)
    (directory / STATE).write_bytes(content)
    return directory


def save(checkpoints: Path, step: int, name: str = "mine", validation_loss: float | None = None, is_answered: bool = False) -> Path:
    written = write_state(checkpoints, step)
    entry = {"path": STATE, "bytes": 5, "sha256": file_sha256(written / STATE)}
    details = {"step": step, "validation_loss": validation_loss, "is_answered": is_answered, "consumed": None}
    return publish(written, checkpoints, name, [entry], details)


def prune(checkpoints: Path, keep: int, saved_step: int, answers: MeasurementsByStep | None = None) -> None:
    prune_by(checkpoints, keep, saved_step, answers or {})


def kept(checkpoints: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in checkpoints.iterdir())


def newest_step(checkpoints: Path) -> int | None:
    found = newest(checkpoints, "mine")
    return None if found is None else found.step


def test_the_newest_checkpoint_is_found(tmp_path: Path) -> None:
    assert newest_step(tmp_path) is None
    for step in (9, 10, 100):
        directory = save(tmp_path, step)
    found = newest(tmp_path, "mine")
    assert found is not None
    assert (found.step, found.directory) == (100, directory)


def test_a_checkpoint_that_has_consumed_other_rows_than_are_there_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    written = write_state(tmp_path, 5)
    entry = {"path": STATE, "bytes": 5, "sha256": file_sha256(written / STATE)}
    publish(written, tmp_path, "mine", [entry], {"step": 5, "validation_loss": None, "is_answered": False, "consumed": "these"})
    found = newest(tmp_path, "mine", {5: "these"}.get)
    assert found is not None
    assert found.consumed == "these"
    for now in ({5: "others"}, {}):
        with pytest.raises(ValueError, match=rf"other rows than its 5 steps hold now \(fingerprint these, now {now.get(5)}\); remove"):
            newest(tmp_path, "mine", now.get)


def test_what_a_killed_writer_left_is_no_checkpoint_and_can_be_removed(tmp_path: Path) -> None:
    save(tmp_path, 5)
    torn = write_state(tmp_path, 10)
    assert newest_step(tmp_path) == 5
    remove_leftovers(tmp_path)
    assert not torn.exists()
    assert newest_step(tmp_path) == 5


def test_a_damaged_byte_falls_back_to_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (save(tmp_path, 10) / STATE).write_bytes(b"stale")  # of the same size
    assert newest_step(tmp_path) == 5


def test_a_shortened_or_missing_file_falls_back_to_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (save(tmp_path, 10) / STATE).write_bytes(b"sta")
    (save(tmp_path, 15) / STATE).unlink()
    (save(tmp_path, 20) / "manifest.json").unlink()
    assert newest_step(tmp_path) == 5


def test_no_checkpoint_is_taken_when_all_are_damaged(tmp_path: Path) -> None:
    (save(tmp_path, 5) / STATE).write_bytes(b"stale")
    assert newest_step(tmp_path) is None


def test_saving_a_step_again_leaves_nothing_of_the_damaged_one(tmp_path: Path) -> None:
    (save(tmp_path, 5) / "more").write_bytes(b"stale")
    assert [path.name for path in sorted(save(tmp_path, 5).iterdir())] == ["manifest.json", STATE]
    assert newest_step(tmp_path) == 5


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
    prune(tmp_path, keep=2, saved_step=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000010"]


def test_a_damaged_checkpoint_that_a_training_fell_back_from_does_not_drive_out_the_good_one(tmp_path: Path) -> None:
    for step in (5, 10):
        save(tmp_path, step)
    (tmp_path / "step-00000010" / STATE).write_bytes(b"stale")
    save(tmp_path, 7)
    prune(tmp_path, keep=1, saved_step=7)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000007"]


def test_the_one_with_the_least_held_out_loss_is_kept_besides_and_found(tmp_path: Path) -> None:
    for step, loss in enumerate([0.9, 0.5, 0.7, None], start=1):
        save(tmp_path, step, validation_loss=loss)
        prune(tmp_path, keep=1, saved_step=step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000004"]
    assert best(tmp_path, "mine", "loss", {}).step == 2
    (tmp_path / "step-00000002" / STATE).write_bytes(b"stale")
    with pytest.raises(ValueError, match="no undamaged checkpoint with a held-out loss"):
        best(tmp_path, "mine", "loss", {})


def test_the_one_with_the_highest_pass_at_1_is_kept_besides_and_found_and_the_newest_of_equals(tmp_path: Path) -> None:
    answers: dict[int, dict[str, float]] = {}
    for step, share in enumerate([0.2, 0.5, 0.5, 0.1], start=1):
        save(tmp_path, step, validation_loss=float(step), is_answered=True)
        answers[step] = {"pass@1": share}
        prune(tmp_path, keep=1, saved_step=step, answers=answers)
    assert kept(tmp_path) == [1, 3, 4]  # the least loss, the highest pass@1, the newest
    assert best(tmp_path, "mine", "pass@1", answers).step == 3
    with pytest.raises(ValueError, match=r"no undamaged checkpoint with a held-out pass@1; .* remove it to measure again"):
        best(tmp_path, "mine", "pass@1", {4: {"problem": 0}})


def test_a_checkpoint_is_kept_until_its_answers_are_there_or_known_not_to_come(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, is_answered=step < 3)
    prune(tmp_path, keep=1, saved_step=3)
    assert kept(tmp_path) == [1, 2, 3]
    assert [saved.step for saved in awaited(tmp_path, {})] == [1, 2]
    answers: MeasurementsByStep = {1: {"step": 1, "problem": "no memory"}, 2: {"step": 2, "pass@1": 0.0}}
    assert awaited(tmp_path, answers) == []
    prune(tmp_path, keep=1, saved_step=3, answers=answers)
    assert kept(tmp_path) == [2, 3]


def test_a_checkpoint_is_checked_before_it_is_measured(tmp_path: Path) -> None:
    directory = save(tmp_path, 5)
    assert checked(directory).step == 5
    (directory / STATE).write_bytes(b"stale")
    with pytest.raises(ValueError, match="step-00000005 is incomplete or damaged"):
        checked(directory)


def test_a_checkpoint_of_another_training_is_refused_and_not_skipped(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10, name="theirs")
    with pytest.raises(ValueError, match=r"other data, model or settings \(fingerprint theirs, this training's is mine\).*to train anew"):
        newest_step(tmp_path)


def test_the_fingerprint_follows_settings_data_and_model_and_not_where_it_runs(tmp_path: Path) -> None:
    training = TrainingConfig(context_length=100)
    model = tiny_model(tmp_path / "model")
    packed, other_packed = (packed_examples(tmp_path / str(seed), training, random_examples(9, seed=seed)) for seed in (0, 1))
    mine = fingerprint(training, str(model), packed)
    assert fingerprint(training.model_copy(update={"learning_rate": 1e-3}), str(model), packed) != mine
    assert fingerprint(training, str(model), other_packed) != mine
    assert fingerprint(training, str(tiny_model(tmp_path / "larger", num_hidden_layers=3)), packed) != mine
    validated = [
        training.model_copy(update={"validation": ValidationConfig.model_validate({"fraction": 0.1, "every_steps": 2, **more})})
        for more in ({}, {"answers": {"every_steps": 2}, "choose_by": "pass@1"}, {"fraction": 0.2})
    ]
    assert mine != fingerprint(validated[0], str(model), packed)
    assert fingerprint(validated[0], str(model), packed) == fingerprint(validated[1], str(model), packed)
    assert fingerprint(validated[0], str(model), packed) != fingerprint(validated[2], str(model), packed)
    elsewhere = {
        "num_workers": (2, 8),
        "cpus_per_worker": 4.0,
        "use_gpu": True,
        "zero_stage": 3,
        "micro_batch_size": 2,
        "logits_chunk_tokens": 7,
        "activation_checkpointing": True,
        "checkpoint_every_steps": 7,
        "keep_checkpoints": 3,
        "max_failures": 9,
        "offload": "parameters",
        "trackers": ("wandb",),
        "deterministic": True,
        "collective_timeout_s": 60,
    }
    assert elsewhere.keys() == set(NO_EFFECT)
    assert fingerprint(training.model_copy(update=elsewhere), str(model), packed) == mine


def test_a_checkpoints_name_sorts_by_step() -> None:
    assert directory_of(Path("c"), 9).name < directory_of(Path("c"), 10).name < directory_of(Path("c"), 10**7).name
