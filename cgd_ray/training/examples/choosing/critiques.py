"""Which critique the arm cgd sees: its own, or one that takes something away, to find out what in a critique helps.

shuffled: another problem's critique, of the same verdict and about the same length, so that only its relevance is gone; each critique is
used exactly once. generic: advice that fits any problem, so that its specifics are gone too. verdict_only: the line that says whether the
attempt is right, and nothing else. (specific changes nothing, and none is an arm of its own.)
How to use: `donors = shuffled_donors(records, training.seed)` on what is known of all records to train on, `verdict_only(critique)` on one;
texts.py puts the texts in.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cgd_ray.selection.verdicts import without_conclusion

CLASSES_PER_DOUBLING = 2  # of a critique's length: within a bucket lengths differ by a factor of at most 1.4


def verdict_only(critique: str) -> str:
    """What a critique concludes with, its last line where it announces no verdict."""
    lines = critique.rstrip().splitlines()
    concluding = [line for line in lines[len(without_conclusion(critique).splitlines()) :] if line.strip()]
    return "\n".join(concluding or lines[-1:])


def shuffled_donors(records: pa.Table, seed: int) -> np.ndarray:
    """For each record the index of the one of another problem whose critique it is shown; its own where it has no critique.

    `records` have the columns record_id, problem_id, verdict and critique_length, 0 where there is none. Raises ValueError when more than
    half of the records that could swap belong to one problem.
    """
    lengths = records["critique_length"].to_numpy()
    rows = np.flatnonzero(lengths)
    donors = np.arange(records.num_rows)
    if len(rows):
        ids = {name: _ranks(records[name].take(rows)) for name in ("record_id", "problem_id", "verdict")}
        donors[rows] = rows[
            derangement(
                record_ids=ids["record_id"], problem_ids=ids["problem_id"], verdicts=ids["verdict"], lengths=lengths[rows], seed=seed
            )
        ]
    return donors


def _ranks(names: pa.ChunkedArray) -> np.ndarray:
    """Numbers in the order of the names, the same for the same name: of names as Python objects there would be ten times as much memory."""
    ranks: np.ndarray = pc.rank(names, sort_keys="ascending", tiebreaker="dense").to_numpy()
    return ranks


def derangement(*, record_ids: np.ndarray, problem_ids: np.ndarray, verdicts: np.ndarray, lengths: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of the rows that moves each to a row of another problem, inside its bucket of verdict and length.

    The rows of a bucket form a ring, problem after problem in a random order; turning the ring by its largest problem's size brings every
    row to another problem. It depends on the ids and the seed, not on the order of the rows.
    """
    _, records = np.unique(record_ids, return_inverse=True)
    names, problems = np.unique(problem_ids, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))[problems]
    donors = np.empty(len(records), dtype=np.int64)
    for rows in _buckets(problems, verdicts, lengths):
        largest = _largest_problem(problems[rows])
        if 2 * largest > len(rows):
            raise ValueError(
                f"training.critiques is shuffled, but {largest} of the {len(rows)} records that could swap critiques belong to one "
                "problem; train on more problems or set it to another kind"
            )
        ring = rows[np.lexsort((records[rows], order[rows]))]
        donors[ring] = np.roll(ring, -largest)
    return donors


@dataclass(kw_only=True)
class _Bucket:
    verdict: int
    length_class: int
    rows: np.ndarray

    def distance(self, other: "_Bucket") -> tuple[bool, int]:
        """Another verdict is further away than any other length."""
        return self.verdict != other.verdict, abs(self.length_class - other.length_class)


def _buckets(problems: np.ndarray, verdicts: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Rows by verdict and length; a bucket in which a problem has more than half of the rows is merged with the nearest one."""
    names, codes = np.unique(verdicts, return_inverse=True)
    classes = np.floor(CLASSES_PER_DOUBLING * np.log2(lengths)).astype(np.int64)
    buckets = [
        _Bucket(verdict=verdict, length_class=int(length_class), rows=rows)
        for verdict in range(len(names))
        for length_class in np.unique(classes)
        if len(rows := np.flatnonzero((codes == verdict) & (classes == length_class)))
    ]
    while len(buckets) > 1:
        stuck = next((bucket for bucket in buckets if 2 * _largest_problem(problems[bucket.rows]) > len(bucket.rows)), None)
        if stuck is None:
            break
        buckets.remove(stuck)
        nearest = min(buckets, key=stuck.distance)
        nearest.rows = np.concatenate([nearest.rows, stuck.rows])
    return [bucket.rows for bucket in buckets]


def _largest_problem(problems: np.ndarray) -> int:
    """How many of the rows the most frequent problem has."""
    return int(np.unique(problems, return_counts=True)[1].max())
