"""What is in a safetensors file, without reading its tensors.

How to use: `tensor_shapes(directory / "model.safetensors")`.
"""

from pathlib import Path

LFS_POINTER = b"version https://git-lfs"
"""How the small file begins that Git leaves in place of a large one."""


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """Of every tensor by its name. Raises ValueError, one line that names the file, when it holds none."""
    from safetensors import SafetensorError, safe_open

    try:
        with file.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ValueError(f"{file} is a Git LFS pointer and not the weights; run `git lfs pull` there, or download the file")
        with safe_open(file, framework="numpy") as tensors:
            return {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is no safetensors file ({error}); replace it") from None
