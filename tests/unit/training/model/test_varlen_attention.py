"""The GPU's way to attend over packed rows, with the kernel's documented behaviour on a CPU, equals the loop over examples."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from cgd_ray.training.model.attention import attend_at_once, has_flash_attention, packed_attention

LENGTHS = [3, 1, 17, 8]


def varlen_by_definition(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    *others: Any,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """torch.nn.attention.varlen.varlen_attn as documented: [T, H, D] in and out, a window (W, 0) sees W tokens back and itself."""
    assert starts.dtype == torch.int32
    assert others[1:] == (17, 17)
    outputs = []
    for start, end in pairwise(starts.tolist()):
        distance = torch.arange(end - start)[:, None] - torch.arange(end - start)
        mask = (distance >= -window_size[1]) & ((distance <= window_size[0]) | torch.tensor(window_size[0] < 0))
        heads = (tensor[start:end].transpose(0, 1)[None] for tensor in (query, key, value))
        output = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask, scale=scale, enable_gqa=enable_gqa)
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("sliding_window", [None, 4])
def test_one_call_for_all_examples_equals_one_for_each(sliding_window: int | None) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, sum(LENGTHS), 8) for heads in (4, 2, 2))
    settings: dict[str, Any] = {"scaling": 0.3, "sliding_window": sliding_window}
    loop, _ = packed_attention(torch.nn.Module(), query, key, value, None, example_lengths=LENGTHS, **settings)
    at_once = attend_at_once(varlen_by_definition, query, key, value, LENGTHS, **settings)
    assert at_once.shape == loop.shape == (1, sum(LENGTHS), 4, 8)
    torch.testing.assert_close(at_once, loop)


def test_a_cpu_has_no_flash_attention() -> None:
    heads = torch.zeros(1, dtype=torch.bfloat16)
    assert not has_flash_attention(heads, heads)
