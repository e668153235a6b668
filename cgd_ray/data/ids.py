"""Many record ids, looked up without a Python object for each: 24 bytes an id of 16 digits.

How to use: `known = Ids(table["record_id"])`; `known.find(batch["record_id"])` gives each one's place among the known, or ABSENT.
"""

from typing import Any

import numpy as np
import pyarrow as pa

ABSENT = -1


class Ids:
    """A collection of ids in their order."""

    def __init__(self, ids: "pa.Array[Any] | pa.ChunkedArray") -> None:
        names = _as_bytes(ids)
        self._order = np.argsort(names, kind="stable")
        self._sorted = names[self._order]

    def __len__(self) -> int:
        return len(self._sorted)

    def find(self, ids: "pa.Array[Any] | pa.ChunkedArray") -> np.ndarray:
        """The place of each id, the first one's where it is there several times; ABSENT where it is not."""
        if not len(self):
            return np.full(len(ids), ABSENT)
        wanted = _as_bytes(ids)
        places = np.minimum(np.searchsorted(self._sorted, wanted), len(self) - 1)
        return np.where(self._sorted[places] == wanted, self._order[places], ABSENT)

    def lacks(self, ids: "pa.Array[Any] | pa.ChunkedArray") -> "pa.Array[Any]":
        """Whether an id is not there, for each: what filters those that are left."""
        return pa.array(self.find(ids) == ABSENT)


def _as_bytes(ids: "pa.Array[Any] | pa.ChunkedArray") -> np.ndarray:
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    arrays = [np.array(chunk.cast(pa.binary()).to_pylist(), dtype=np.bytes_) for chunk in chunks if len(chunk)]
    return np.concatenate(arrays) if arrays else np.empty(0, dtype="S1")
