"""A training goes on from its newest checkpoint, exactly, with any number of workers and any ZeRO stage."""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from cgd_ray.data.rundir import read_manifest
from cgd_ray.training.job import TrainJob
from tests.distributed import run_ranks
from tests.trainings import NUM_STEPS, Trainings, train_all, train_interrupted

RESUMED_AFTER = 2  # of 6 steps
ROUNDING = {"fp32": 1e-5, "bf16": 1e-3}  # what another order of floating-point sums may change, relative; the promise is 1e-3
SAVING = {"checkpoint_every_steps": RESUMED_AFTER, "keep_checkpoints": 9}

# One for each way in which DeepSpeed keeps the training state; those whose names are in NOW run by default.
LAYOUTS: dict[str, dict[str, Any]] = {
    "fp32-zero0": {"zero_stage": 0},
    "fp32-zero2": {"zero_stage": 2},
    "fp32-zero3": {"zero_stage": 3},
    "bf16-zero0": {"zero_stage": 0, "precision": "bf16"},
    "bf16-zero1": {"zero_stage": 1, "precision": "bf16"},
    "bf16-zero3": {"zero_stage": 3, "precision": "bf16"},
}
NOW = ("fp32-zero2", "fp32-zero3", "bf16-zero1")
GROWN = {"one-to-two": 2, "one-to-two-and-zero3": 3}  # begun by one worker with ZeRO 2, ended by two with this stage
UNEVEN = ["fp32-zero2", "fp32-zero3", "bf16-zero1"]  # ended by three workers, whose number does not divide the batch of eight rows


def slow_but(chosen: Collection[str], names: Iterable[str]) -> list[Any]:
    """The names as parameters, of which the chosen ones run by default."""
    return [pytest.param(name, marks=[] if name in chosen else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """The layouts that the chosen tests ask for: uninterrupted, resumed by two workers, and resumed by one; and some that one began."""
    trainings = Trainings.make(tmp_path_factory.mktemp("resume"))
    root = trainings.root
    chosen = {item.callspec.params["name"] for item in request.session.items if item.path == request.path and hasattr(item, "callspec")}
    layouts = {name: settings for name, settings in LAYOUTS.items() if name in chosen or name == "fp32-zero2"}
    uneven_ones = [name for name in UNEVEN if name in layouts]
    begun = [trainings.job(f"{name}-same", **settings, **SAVING) for name, settings in layouts.items()]
    run_ranks(2, root / "begin-two", train_interrupted, begun, RESUMED_AFTER)
    for name in layouts:
        shutil.copytree(root / f"{name}-same", root / f"{name}-fewer")
    for name in uneven_ones:
        shutil.copytree(root / f"{name}-same", root / f"{name}-uneven")
    fewer = [trainings.job(f"{name}-fewer", **settings, **SAVING, num_workers=1) for name, settings in layouts.items()]
    run_ranks(1, root / "one", end_and_begin, fewer, trainings.job("one-to-two", num_workers=1, **SAVING))
    shutil.copytree(root / "one-to-two", root / "one-to-two-and-zero3")

    whole = [trainings.job(f"{name}-whole", **settings) for name, settings in layouts.items()]
    grown = [trainings.job(name, zero_stage=stage, **SAVING) for name, stage in GROWN.items()]
    run_ranks(2, root / "end-two", train_all, [*whole, *begun, *grown])
    uneven = [trainings.job(f"{name}-uneven", **LAYOUTS[name], **SAVING, num_workers=3) for name in uneven_ones]
    run_ranks(3, root / "end-three", train_all, uneven)
    return trainings


def end_and_begin(begun: list[TrainJob], anew: TrainJob) -> None:
    """Run on each rank."""
    train_all(begun)
    train_interrupted([anew], RESUMED_AFTER)


@pytest.mark.parametrize("name", slow_but(NOW, LAYOUTS))
def test_the_same_number_of_workers_repeats_every_bit(trained: Trainings, name: str) -> None:
    assert len(trained.losses(f"{name}-whole")) == NUM_STEPS
    assert trained.losses(f"{name}-same") == trained.losses(f"{name}-whole")
    resumed, whole = trained.weights(f"{name}-same"), trained.weights(f"{name}-whole")
    assert all(torch.equal(resumed[weight], whole[weight]) for weight in whole)


@pytest.mark.parametrize("name", slow_but(NOW, LAYOUTS))
def test_one_worker_goes_on_with_what_two_have_saved(trained: Trainings, name: str) -> None:
    workers = [line["train/world_size"] for line in trained.metrics(f"{name}-fewer")]
    assert workers == [2] * RESUMED_AFTER + [1] * (NUM_STEPS - RESUMED_AFTER)
    assert trained.losses(f"{name}-fewer") == pytest.approx(trained.losses(f"{name}-whole"), rel=ROUNDING[name[:4]])


@pytest.mark.parametrize("name", UNEVEN)
def test_three_workers_go_on_with_what_two_have_saved_though_three_does_not_divide_the_batch(trained: Trainings, name: str) -> None:
    workers = [line["train/world_size"] for line in trained.metrics(f"{name}-uneven")]
    assert workers == [2] * RESUMED_AFTER + [3] * (NUM_STEPS - RESUMED_AFTER)
    whole, uneven = trained.metrics(f"{name}-whole"), trained.metrics(f"{name}-uneven")
    for counted in ("train/tokens", "train/target_tokens"):
        assert [line[counted] for line in uneven] == [line[counted] for line in whole]
    assert trained.losses(f"{name}-uneven") == pytest.approx(trained.losses(f"{name}-whole"), rel=ROUNDING[name[:4]])


@pytest.mark.parametrize("name", GROWN)
def test_two_workers_go_on_with_what_one_has_saved_in_another_stage_too(trained: Trainings, name: str) -> None:
    workers = [line["train/world_size"] for line in trained.metrics(name)]
    assert workers == [1] * RESUMED_AFTER + [2] * (NUM_STEPS - RESUMED_AFTER)
    assert trained.losses(name) == pytest.approx(trained.losses("fp32-zero2-whole"), rel=ROUNDING["fp32"])


@pytest.mark.parametrize("name", slow_but(NOW, LAYOUTS))
def test_the_ranks_write_the_whole_state_once(trained: Trainings, name: str) -> None:
    manifest = read_manifest(trained.root / f"{name}-same" / "checkpoints" / "step-00000002")
    assert manifest is not None
    assert [Path(part["path"]).name for part in manifest["parts"]] == ["rank-00000.safetensors", "rank-00001.safetensors"]
    num_parameters = sum(weight.numel() for weight in trained.weights(f"{name}-same").values())
    headers = 32 * 1024  # at most
    assert 0 < sum(part["bytes"] for part in manifest["parts"]) - num_parameters * 3 * 4 <= headers


@pytest.mark.parametrize("name", slow_but(NOW, LAYOUTS))
def test_a_checkpoints_files_alone_hold_the_very_student_that_the_ranks_export(trained: Trainings, name: str) -> None:
    exported = trained.weights(f"{name}-same")
    from_files = trained.from_files(f"{name}-same", NUM_STEPS, **LAYOUTS[name])
    assert from_files.keys() == exported.keys()
    assert all(torch.equal(from_files[weight], exported[weight]) for weight in exported)
