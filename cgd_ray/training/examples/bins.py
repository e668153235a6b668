"""First-fit-decreasing: the longest example first, each into the first row that has room for it.

Examples of one length go in together, since the first row with room for one of them takes as many as it holds: the same rows as one by
one, and ten million examples in seconds. Rows are looked at in blocks, and a block without room is passed over.
How to use: `bins = first_fit_decreasing(lengths, capacity)`; `bins.part(b, b + 1).members_E` are the examples of bin b.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BINS_PER_BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Which examples are together, B bins with E examples."""

    members_E: np.ndarray
    """Indices of examples, one bin after the other; in a bin the longest first, ties in the given order."""
    ends_B: np.ndarray
    """[B + 1] where in members_E each bin begins, and where the last one ends."""

    def __len__(self) -> int:
        return len(self.ends_B) - 1

    def part(self, start: int, stop: int) -> "Bins":
        """Some bins that follow one another."""
        ends = self.ends_B[start : stop + 1]
        return Bins(members_E=self.members_E[ends[0] : ends[-1]], ends_B=ends - ends[0])

    def sums(self, values: np.ndarray) -> np.ndarray:
        """[B] for each bin the sum of its examples' values."""
        totals: np.ndarray = np.add.reduceat(values[self.members_E], self.ends_B[:-1]) if len(self) else np.zeros(0, values.dtype)
        return totals


def first_fit_decreasing(lengths: Sequence[int] | np.ndarray, capacity: int) -> Bins:
    """Bins of indices into `lengths`, each bin's lengths adding up to at most capacity. Raises ValueError for one that fits nowhere."""
    lengths_E = np.asarray(lengths, dtype=np.int32)
    if len(unfit := np.flatnonzero((lengths_E <= 0) | (lengths_E > capacity))):
        raise ValueError(
            f"example {unfit[0]} has {lengths_E[unfit[0]]} tokens, which does not fit into rows of {capacity}; "
            "raise training.context_length"
        )
    order_E = np.argsort(-lengths_E, kind="stable").astype(np.int32)
    falling_E = lengths_E[order_E]
    starts = np.flatnonzero(np.diff(falling_E, prepend=0))
    bin_of_E = np.empty(len(lengths_E), dtype=np.int32)
    space = _Space(len(lengths_E), capacity)
    for start, stop in pairwise([*starts.tolist(), len(lengths_E)]):
        space.put(int(falling_E[start]), bin_of_E[start:stop])
    members_E = order_E[np.argsort(bin_of_E, kind="stable")]
    return Bins(members_E=members_E, ends_B=np.concatenate([[0], np.cumsum(np.bincount(bin_of_E, minlength=space.num_bins))]))


class _Space:
    """The free space of bins that come into being when none has room."""

    def __init__(self, most_bins: int, capacity: int) -> None:
        num_blocks = -(-most_bins // BINS_PER_BLOCK)
        self._capacity, self.num_bins = capacity, 0
        self._free = np.zeros((num_blocks, BINS_PER_BLOCK), dtype=np.int32)  # 0: no room, or no bin yet
        self._most = np.zeros(num_blocks, dtype=np.int32)

    def put(self, length: int, bin_of: np.ndarray) -> None:
        """Put as many examples of a length into bins as `bin_of` has places, and write there which bins they are."""
        placed = 0
        for block in np.flatnonzero(self._most >= length):
            placed += self._fill(int(block), length, bin_of[placed:])
            if placed == len(bin_of):
                return
        self._open(length, bin_of[placed:])

    def _fill(self, block: int, length: int, bin_of: np.ndarray) -> int:
        """Put examples into the bins of a block, the first ones first; returns how many went in."""
        free = self._free[block]
        fits = np.flatnonzero(free >= length)
        takes = free[fits] // length
        taken = np.cumsum(takes)
        count = min(int(taken[-1]), len(bin_of))
        last = int(np.searchsorted(taken, count))
        fits, takes = fits[: last + 1], takes[: last + 1]
        takes[-1] -= taken[last] - count
        bin_of[:count] = block * BINS_PER_BLOCK + np.repeat(fits, takes)
        free[fits] -= takes * length
        self._most[block] = free.max()
        return count

    def _open(self, length: int, bin_of: np.ndarray) -> None:
        """Put examples into new bins."""
        per_bin = self._capacity // length
        bin_of[:] = self.num_bins + np.arange(len(bin_of)) // per_bin
        first, self.num_bins = self.num_bins, int(bin_of[-1]) + 1
        free = self._free.reshape(-1)[first : self.num_bins]
        free[:] = self._capacity - per_bin * length
        free[-1] = self._capacity - (len(bin_of) - per_bin * (len(free) - 1)) * length
        blocks = slice(first // BINS_PER_BLOCK, (self.num_bins - 1) // BINS_PER_BLOCK + 1)
        self._most[blocks] = self._free[blocks].max(axis=1)
