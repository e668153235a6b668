"""Shards: what several ranks have saved is read back range by range, whoever asks for which."""

import itertools
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cgd_ray.data.rundir import file_sha256
from cgd_ray.training.checkpoints.shards import Shards, write_shard
from cgd_ray.training.model.zero_state import Range


def write_cut(directory: Path, values: torch.Tensor, cuts: list[int]) -> None:
    """`values` of parameter a.weight, cut at these places, one file a piece."""
    edges = [0, *cuts, values.numel()]
    for rank, (start, end) in enumerate(itertools.pairwise(edges)):
        write_shard(directory / f"rank-{rank:05d}.safetensors", {Range("weight", start, "a.weight"): values[start:end].clone()})


@pytest.mark.parametrize("seed", range(4))
def test_any_range_is_what_was_saved_however_it_was_cut(tmp_path: Path, seed: int) -> None:
    rng, values = random.Random(seed), torch.randn(100)
    write_cut(tmp_path, values, sorted(rng.sample(range(1, 100), rng.randint(1, 6))))
    shards = Shards(tmp_path)
    for _ in range(20):
        start = rng.randrange(100)
        numel = rng.randint(1, 100 - start)
        assert torch.equal(shards.read("weight", "a.weight", start, numel), values[start : start + numel])


def test_a_gap_is_refused_with_its_size(tmp_path: Path) -> None:
    write_cut(tmp_path, torch.randn(100), [40, 60])
    (tmp_path / "rank-00001.safetensors").unlink()
    assert Shards(tmp_path).read("weight", "a.weight", 0, 40).shape == (40,)
    with pytest.raises(ValueError, match=r"lacks 20 of 100 elements of a\.weight \(weight\); remove it"):
        Shards(tmp_path).read("weight", "a.weight", 0, 100)
    with pytest.raises(ValueError, match=r"lacks 5 of 5 elements of b\.weight \(exp_avg\); remove it"):
        Shards(tmp_path).read("exp_avg", "b.weight", 0, 5)


def test_the_file_is_safetensors_and_its_hash_that_of_its_bytes(tmp_path: Path) -> None:
    tensors = {kind: torch.randn(5) for kind in ("weight", "exp_avg")}
    path = tmp_path / "rank-00000.safetensors"
    assert write_shard(path, {Range(kind, 3, "layers/0.weight"): values for kind, values in tensors.items()}) == file_sha256(path)
    loaded = load_file(path)
    assert loaded.keys() == {"weight/3/layers/0.weight", "exp_avg/3/layers/0.weight"}
    assert all(torch.equal(loaded[f"{kind}/3/layers/0.weight"], values) for kind, values in tensors.items())
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert length % 8 == 0
    assert json.loads(path.read_bytes()[8 : 8 + length])["weight/3/layers/0.weight"]["dtype"] == "F32"
