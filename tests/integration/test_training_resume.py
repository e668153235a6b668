"""A training goes on from its newest checkpoint, exactly, with any number of workers and any ZeRO stage."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cgd_ray.rundir import read_manifest
from tests.distributed import run_ranks
from tests.trainings import NUM_STEPS, Trainings, train_all, train_interrupted

RESUMED_AFTER = 2  # of 6 steps
ROUNDING = 1e-5  # what another order of floating-point sums may change, relative; the promise is 1e-3

LAYOUTS: dict[str, dict[str, Any]] = {
    **{f"fp32-zero{stage}": {"zero_stage": stage} for stage in range(4)},
    **{f"bf16-zero{stage}": {"zero_stage": stage, "precision": "bf16"} for stage in range(4)},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """Every layout three times: uninterrupted, resumed by two workers, and resumed by one; and two that one worker began."""
    trainings = Trainings.make(tmp_path_factory.mktemp("resume"))
    root, saving = trainings.root, {"checkpoint_every_steps": RESUMED_AFTER, "keep_checkpoints": 9}
    whole = [trainings.job(f"{name}-whole", **settings) for name, settings in LAYOUTS.items()]
    same = [trainings.job(f"{name}-same", **settings, **saving) for name, settings in LAYOUTS.items()]
    fewer = {name: trainings.job(f"{name}-fewer", **settings, **saving) for name, settings in LAYOUTS.items()}
    more = {name: {"zero_stage": 3 if name == "more-zero3" else 2, **saving} for name in ("more-zero2", "more-zero3")}
    run_ranks(2, root / "begin-two", train_interrupted, [*same, *fewer.values()], RESUMED_AFTER)
    begun = [trainings.job(name, **settings, num_workers=1) for name, settings in more.items()]
    run_ranks(1, root / "begin-one", train_interrupted, [*begun, trainings.job("stages", zero_stage=1, num_workers=1, **saving)], RESUMED_AFTER)
    ends = [trainings.job(name, **settings) for name, settings in more.items()]
    run_ranks(2, root / "end-two", train_all, [*whole, *same, *ends, trainings.job("stages", zero_stage=3, **saving)])
    run_ranks(
        1, root / "end-one", train_all, [trainings.job(f"{name}-fewer", **settings, **saving, num_workers=1) for name, settings in LAYOUTS.items()]
    )
    return trainings


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_number_of_workers_repeats_every_bit(trained: Trainings, name: str) -> None:
    assert len(trained.losses(f"{name}-whole")) == NUM_STEPS
    assert trained.losses(f"{name}-same") == trained.losses(f"{name}-whole")
    resumed, whole = trained.weights(f"{name}-same"), trained.weights(f"{name}-whole")
    assert all(torch.equal(resumed[weight], whole[weight]) for weight in whole)


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_worker_goes_on_with_what_two_have_saved(trained: Trainings, name: str) -> None:
    assert [line["train/world_size"] for line in trained.metrics(f"{name}-fewer")] == [2] * RESUMED_AFTER + [1] * (NUM_STEPS - RESUMED_AFTER)
    assert trained.losses(f"{name}-fewer")[:RESUMED_AFTER] == trained.losses(f"{name}-whole")[:RESUMED_AFTER]
    tolerance = ROUNDING if name.startswith("fp32") else 1e-3
    assert trained.losses(f"{name}-fewer") == pytest.approx(trained.losses(f"{name}-whole"), rel=tolerance)


@pytest.mark.parametrize(("name", "reference"), [("more-zero2", "fp32-zero2"), ("more-zero3", "fp32-zero3"), ("stages", "fp32-zero3")])
def test_two_workers_go_on_with_what_one_has_saved_in_another_stage_too(trained: Trainings, name: str, reference: str) -> None:
    assert [line["train/world_size"] for line in trained.metrics(name)] == [1] * RESUMED_AFTER + [2] * (NUM_STEPS - RESUMED_AFTER)
    assert trained.losses(name) == pytest.approx(trained.losses(f"{reference}-whole"), rel=ROUNDING)
    torch.testing.assert_close(trained.weights(name), trained.weights(f"{reference}-whole"), rtol=1e-4, atol=1e-5)


def test_every_rank_writes_its_share_and_nothing_twice(trained: Trainings) -> None:
    for layout in LAYOUTS:
        directory = trained.root / f"{layout}-same" / "checkpoints" / "step-00000002"
        manifest = read_manifest(directory)
        assert manifest is not None
        assert [Path(part["path"]).name for part in manifest["parts"]] == ["rank-00000.safetensors", "rank-00001.safetensors"]
        num_parameters = sum(weight.numel() for weight in trained.weights(f"{layout}-same").values())
        headers = 32 * 1024
        assert 0 <= sum(part["bytes"] for part in manifest["parts"]) - num_parameters * 3 * 4 <= headers
