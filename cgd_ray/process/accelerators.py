"""GPUs as their makers describe them: dense bf16 FLOP/s, memory, bandwidth. What a GPU is called by its driver, by Ray or by people.

How to use: `gpu_of(torch.cuda.get_device_name(device))`; `gpu_of("H100")`; None where the table lacks it.
"""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind."""

    name: str
    """A part of the driver's name, of Ray's accelerator type and of what people write."""
    peak_flops: float
    """Dense bf16 FLOP/s."""
    memory_bytes: float
    """Of one GPU."""
    bandwidth: float
    """Bytes of its memory that it reads in a second."""


def _gpu(name: str, teraflops: float, memory_gib: float, gigabytes_per_s: float) -> Gpu:
    return Gpu(name=name, peak_flops=teraflops * 1e12, memory_bytes=memory_gib * GIB, bandwidth=gigabytes_per_s * 1e9)


GPUS = (
    _gpu("H100 PCIe", 756, 80, 2000),
    _gpu("H100 NVL", 835, 94, 3900),
    _gpu("GH200", 989, 96, 4000),
    _gpu("H100", 989, 80, 3350),
    _gpu("H200", 989, 141, 4800),
    _gpu("H800", 989, 80, 3350),
    _gpu("B200", 2250, 180, 7700),
    _gpu("A100 40GB", 312, 40, 1555),
    _gpu("A100", 312, 80, 2039),
    _gpu("A800", 312, 80, 2039),
    _gpu("L40S", 362, 48, 864),
    _gpu("L4", 121, 24, 300),
    _gpu("A10G", 70, 24, 600),
    _gpu("A10", 125, 24, 600),
    _gpu("RTX 4090", 165, 24, 1008),
    _gpu("MI300X", 1307, 192, 5300),
)
"""The makers' data sheets. The first whose words are all in a name is meant."""


def gpu_of(name: str) -> Gpu | None:
    """The first GPU all of whose words are in the name, however it is punctuated; None where there is none."""
    words = _words(name)
    return next((gpu for gpu in GPUS if _words(gpu.name) <= words), None)


def _words(name: str) -> set[str]:
    """In lower case; 40GB and 40G are the same."""
    return {word.removesuffix("b") if word[:1].isdigit() else word for word in name.lower().replace("-", " ").replace("_", " ").split()}
