"""What a run writes: records, packed rows, checkpoints, the student; and how long a checkpoint takes.

How to use: `storage = storage_of(config, work, facts)`.
"""

from dataclasses import dataclass

from cgd_ray.config import Config
from cgd_ray.planning.models.facts import ModelFacts
from cgd_ray.planning.ranges import Range
from cgd_ray.planning.work import Work

TEXT_BYTES_PER_TOKEN = 2.0
"""Of a token's text in compressed Parquet, columns of counts and ids included."""
PACKED_BYTES_PER_TOKEN = 9.0
"""Ids, masks and lengths of examples and of packed rows, which both stay."""
STATE_BYTES = 12
"""Of a parameter in a checkpoint: fp32 weight and both moments."""
WRITE_BYTES_PER_S = Range(1.0e9, 0.2e9, 3.0e9)
"""At which all ranks together write to shared storage."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Bytes."""

    records: Range
    packed: Range
    checkpoint: float
    """One."""
    checkpoints: float
    """All that exist at the same time: those kept, and the one that is being written."""
    student: float
    save_seconds: Range
    """Of one checkpoint; the training goes on meanwhile."""

    @property
    def total(self) -> Range:
        """All of it."""
        return self.records + self.packed + (self.checkpoints + self.student)

    def as_dict(self) -> dict[str, object]:
        """For plan.json."""
        return {
            "records": self.records.as_dict(),
            "packed": self.packed.as_dict(),
            "checkpoint": self.checkpoint,
            "checkpoints": self.checkpoints,
            "student": self.student,
            "save_seconds": self.save_seconds.as_dict(),
        }


def storage_of(config: Config, work: Work, facts: ModelFacts) -> Storage:
    """Of a run's directory."""
    texts = work.student.generated + work.teacher.generated + work.student.prompt
    checkpoint = float(STATE_BYTES * facts.size.num_parameters)
    kept = config.training.keep_checkpoints + 1 if config.training.checkpoint_every_steps is not None else 1
    width = 4 if config.training.precision == "fp32" else 2
    return Storage(
        records=texts * TEXT_BYTES_PER_TOKEN,
        packed=work.trained_tokens * (PACKED_BYTES_PER_TOKEN / config.training.num_epochs),
        checkpoint=checkpoint,
        checkpoints=checkpoint * kept,
        student=float(width * facts.size.num_parameters),
        save_seconds=Range.exactly(checkpoint) / WRITE_BYTES_PER_S,
    )
