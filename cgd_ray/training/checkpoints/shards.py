"""One rank's share of the training state as a safetensors file, and any range of any parameter read back from all ranks' files.

Each tensor is a range of a flattened parameter (its fp32 weight or an AdamW moment), so what one number of workers or one ZeRO stage
has written, any other reads: what DeepSpeed calls a universal checkpoint, without its second pass over pickles.
How to use: `sha256 = write_shard(path, {Range(kind, start, name): tensor})`; `Shards(directory).read(kind, name, start, numel)`.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from cgd_ray.training.model.zero_state import Range

SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A saved range of a flattened parameter."""

    start: int
    numel: int
    slice: Any
    """Reads the file at the positions that are asked of it."""


def write_shard(path: Path, tensors: Mapping[Range, torch.Tensor]) -> str:
    """Write fp32 CPU tensors durably and return the file's SHA-256.

    Written by hand because safetensors' own writer holds Python's lock, which would stall the training that goes on meanwhile.
    """
    entries, end = {}, 0
    for saved, tensor in tensors.items():
        assert tensor.dtype == torch.float32, f"{saved} is {tensor.dtype}; the training state is fp32"
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[_key(saved)] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for content in (len(header).to_bytes(8, "little"), header, *(tensor.numpy().data.cast("B") for tensor in tensors.values())):
            digest.update(content)
            stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


class Shards:
    """The files of one checkpoint together; nothing is read before it is asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pieces: dict[tuple[str, str], list[_Piece]] = defaultdict(list)
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            file = safe_open(path, framework="pt")
            for saved in file.keys():  # noqa: SIM118  (a safetensors file is no mapping)
                what, piece = _range(saved), file.get_slice(saved)
                self._pieces[what.kind, what.name].append(_Piece(start=what.start, numel=piece.get_shape()[0], slice=piece))

    def read(self, kind: str, name: str, start: int, numel: int) -> torch.Tensor:
        """Elements [start, start + numel) of the flattened parameter, whoever wrote them. Raises ValueError when some are missing."""
        values, found = torch.empty(numel), 0
        for piece in self._pieces[kind, name]:
            first, last = max(start, piece.start), min(start + numel, piece.start + piece.numel)
            if first < last:
                values[first - start : last - start] = piece.slice[first - piece.start : last - piece.start]
                found += last - first
        if found != numel:
            raise ValueError(f"checkpoint {self._directory} lacks {numel - found} of {numel} elements of {name} ({kind}); remove it")
        return values


def _key(saved: Range) -> str:
    """How a file names a range."""
    return f"{saved.kind}/{saved.start}/{saved.name}"


def _range(key: str) -> Range:
    kind, start, name = key.split("/", 2)
    return Range(kind, int(start), name)
