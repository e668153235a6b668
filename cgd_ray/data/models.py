"""What is known of a model without loading it: the tensors in its files, and which model of the hub it is.

How to use: `tensor_shapes(directory / "model.safetensors")`; `from_hub(role.model)`.
"""

import re
from dataclasses import dataclass
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


COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class HubModel:
    """One state of a model on the hub."""

    name: str
    """As on the hub, e.g. Qwen/Qwen3-0.6B."""
    commit: str
    """40 hexadecimal digits."""

    def __str__(self) -> str:
        return f"{self.name}@{self.commit}"


def from_hub(model: str) -> HubModel | None:
    """What a directory of the hub's cache holds, models--OWNER--NAME/snapshots/COMMIT; None for any other directory, or name."""
    *_, folder, snapshots, commit = ("", "", "", *Path(model).parts)
    if snapshots != "snapshots" or not folder.startswith("models--") or not COMMIT.fullmatch(commit):
        return None
    return HubModel("/".join(folder.split("--")[1:]), commit)


def is_hub_name(model: str) -> bool:
    """Whether this may be a model of the hub, as it is no directory and does not look like the path of one."""
    return not Path(model).is_dir() and not model.startswith(".") and _HUB_NAME.fullmatch(model) is not None
