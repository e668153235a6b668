"""Which records a training takes, and which arm each of them gets: all by numbers that depend on the record's id and the seed alone.

So a budget takes the same records for every arm, a larger budget contains a smaller one, and a record that comes or goes changes nothing
for the others. How to use: `assign_arms(training, ids)`, `seeded_order(ids, seed)`, `interleave({"right": ..., "wrong": ...}, shares)`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from cgd_ray.config import TrainingConfig

Item = TypeVar("Item")

WITHOUT_CRITIQUES = {"cgd": "cgd_without_critique"}
"""What training.critiques=none makes of an arm."""


def arms_of(training: TrainingConfig) -> list[str]:
    """The arms of a training, in the order of its shares."""
    replaced = WITHOUT_CRITIQUES if training.critiques == "none" else {}
    return [replaced.get(name, name) for name in training.arm_shares]


def assign_arms(training: TrainingConfig, record_ids: Sequence[str]) -> list[str]:
    """The arm of each record, drawn with the shares of training.arm."""
    arms = arms_of(training)
    bounds = np.cumsum(list(training.arm_shares.values()))[:-1]  # the last arm takes what rounding leaves
    drawn = np.searchsorted(bounds, _fractions(record_ids, training.seed, "arm"), side="right")
    return [arms[index] for index in drawn]


def seeded_order(record_ids: Iterable[str], seed: int) -> np.ndarray:
    """Indices of the records in the order in which a budget takes them."""
    return np.argsort(_fractions(record_ids, seed, "order"), kind="stable")


def interleave(queues: Mapping[str, Iterator[Item]], shares: Mapping[str, float]) -> Iterator[Item]:
    """Items of all queues, in these shares after any number of them to within one, until a queue whose turn it is has no more."""
    taken = dict.fromkeys(queues, 0)
    while True:
        turn = min(queues, key=lambda name: (taken[name] + 0.5) / shares[name])
        item = next(queues[turn], None)
        if item is None:
            return
        taken[turn] += 1
        yield item


def _fractions(record_ids: Iterable[str], seed: int, purpose: str) -> np.ndarray:
    """A number in [0, 1) for each record; for another purpose an independent one."""
    digests = (hashlib.sha256(f"{seed}\x00{purpose}\x00{name}".encode()).digest() for name in record_ids)
    numbers = np.fromiter((int.from_bytes(digest[:8], "big") for digest in digests), dtype=np.uint64)
    return (numbers >> np.uint64(11)) * 2.0**-53
