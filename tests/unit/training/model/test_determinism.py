"""training.deterministic: operations without a kernel that repeats every bit are refused by name."""

import os

import pytest
import torch

from cgd_ray.training.model.determinism import repeat_every_bit


def test_what_cannot_repeat_every_bit_is_an_error() -> None:
    before = torch.utils.deterministic.fill_uninitialized_memory
    try:
        repeat_every_bit()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled(), "torch's flash attention goes by errors alone"
        assert not torch.empty(1000).isnan().all(), "memory that is not read should not be written"
        pooled, indices = torch.nn.functional.max_pool2d(torch.ones(1, 1, 2, 2), 2, return_indices=True)
        with pytest.raises(RuntimeError, match=r"max_unpooling2d.* does not have a deterministic implementation"):
            torch.nn.functional.max_unpool2d(pooled, indices, 2)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = before
