"""Which problems are held out of the training, to measure it on: a share of them, by a hash of the problem's id.

All samples of a problem are on one side, and the side does not depend on arm, seed, order or on which other problems there are.
How to use: `is_held_out(row["problem_id"], training.validation.fraction)`.
"""

import pyarrow as pa
import pyarrow.compute as pc

from cgd_ray.config import ValidationConfig
from cgd_ray.data.records import short_hash

HASH_RANGE = 16**16  # of short_hash


def is_held_out(problem_id: str, fraction: float) -> bool:
    """Whether this problem is among the held-out share; a larger share holds a smaller one."""
    return _place(problem_id) < fraction * HASH_RANGE


def problems_to_answer(work: pa.Table, validation: ValidationConfig) -> pa.Table:
    """Of a work list (WORK_SCHEMA) the held-out problems that a training's checkpoints answer: once each, those with a reference answer.

    A smaller max_problems takes a part of what a larger one does. Raises ValueError when there is none.
    """
    assert validation.answers is not None, "asked only when there are answers to be measured"
    once = work.filter(pc.and_(pc.equal(work["sample_index"], 0), pc.is_null(work["error"])))
    held_out = once.filter(pa.array([is_held_out(name, validation.fraction) for name in once["problem_id"].to_pylist()], pa.bool_()))
    gradable = held_out.filter(pc.is_valid(held_out["reference_answer"]))
    if gradable.num_rows == 0:
        raise ValueError(
            f"training.validation.answers has nothing to grade: of {once.num_rows:,} problems training.validation.fraction "
            f"{validation.fraction:g} holds out {held_out.num_rows:,}, and none of them has a reference answer; raise the fraction, map "
            "problems.fields.reference_answer, or set answers to null"
        )
    order = sorted(range(gradable.num_rows), key=lambda row: _place(gradable["problem_id"][row].as_py()))
    return gradable.take(sorted(order[: validation.answers.max_problems]))


def _place(problem_id: str) -> int:
    return int(short_hash(f"held out\x00{problem_id}"), 16)
