"""Which problems are held out of the training, to measure its loss on: a share of them, by a hash of the problem's id.

All samples of a problem are on one side, and the side does not depend on arm, seed, order or on which other problems there are.
How to use: `is_held_out(row["problem_id"], training.validation.fraction)`.
"""

from cgd_ray.records import short_hash

HASH_RANGE = 16**16  # of short_hash


def is_held_out(problem_id: str, fraction: float) -> bool:
    """Whether this problem is among the held-out share; a larger share holds a smaller one."""
    return int(short_hash(f"held out\x00{problem_id}"), 16) < fraction * HASH_RANGE
