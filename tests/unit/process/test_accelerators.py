"""GPUs are known by whatever they are called."""

import pytest

from cgd_ray.process.accelerators import gpu_of


@pytest.mark.parametrize(
    ("name", "teraflops", "gib"),
    [
        ("NVIDIA H100 80GB HBM3", 989, 80),
        ("NVIDIA H100 PCIe", 756, 80),
        ("NVIDIA GH200 480GB", 989, 96),
        ("NVIDIA A100-SXM4-40GB", 312, 40),
        ("A100-80G", 312, 80),
        ("NVIDIA L40S", 362, 48),
        ("NVIDIA L4", 121, 24),
        ("NVIDIA A10G", 70, 24),
        ("h200", 989, 141),
    ],
)
def test_the_table_tells_similar_names_apart(name: str, teraflops: float, gib: float) -> None:
    gpu = gpu_of(name)
    assert gpu is not None
    assert (gpu.peak_flops, gpu.memory_bytes) == (teraflops * 1e12, gib * 2**30)


def test_an_unknown_gpu_is_none() -> None:
    assert gpu_of("NVIDIA H1000") is None
