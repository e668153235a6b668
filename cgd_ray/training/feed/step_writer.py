"""Deals examples out to the optimizer steps of a training that has begun before all of them are made: one file of packed rows per step.

Examples wait in a pool until they fill a step, are packed first-fit-decreasing, and what does not fit into the step waits for the next.
A step's file appears whole, and the files themselves are the journal of what has been dealt out, so a killed writer's successor deals no
example twice and none is lost. How to use: `steps = StepWriter(training, packed, num_records)`; as examples come, `steps.add(examples)` and
`steps.write(num_seen)`; at the end `steps.finish(num_seen, fingerprint)`. stream.py reads the files.
Without torch, since the driver writes them.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.config import TrainingConfig
from cgd_ray.data.rundir import atomic_write, write_manifest
from cgd_ray.training.examples.bins import first_fit_decreasing
from cgd_ray.training.examples.example_files import example_table
from cgd_ray.training.examples.packing import ROWS_PER_GROUP, packed_rows
from cgd_ray.training.examples.preparation import Prepared

SHARE = b"share"
"""Metadata of a step's file: the share of all records that has been dealt with once the step is taken, trained on or dropped."""


def step_file(packed: Path, step: int) -> Path:
    """Where the rows of the step with this index are, PACKED_SCHEMA."""
    return packed / f"step-{step:08d}.parquet"


class StepWriter:
    """The writer of the steps' files; one at a time."""

    def __init__(self, training: TrainingConfig, packed: Path, num_records: int) -> None:
        """Take up what is on the disk; `num_records` is how many records there will be, kept or not."""
        self._context_length, self._rows_per_step = training.context_length, training.global_batch_size
        self._packed, self._num_records = packed, num_records
        self._pool: list[Prepared] = []
        self._dealt: set[str] = set()
        self._counts = {"examples": 0, "rows": 0, "tokens": 0, "target_tokens": 0, "steps": 0}
        while (file := step_file(packed, self._counts["steps"])).exists():
            self._count(pq.read_table(file, columns=["record_ids", "num_tokens", "num_targets"]))

    def add(self, examples: Iterable[Prepared]) -> None:
        """Put examples into the pool, unless they were dealt out before."""
        self._pool += [example for example in examples if example.record_id not in self._dealt]

    def is_dealt(self, record_id: str) -> bool:
        """Whether the example of this record was dealt out."""
        return record_id in self._dealt

    def write(self, num_seen: int) -> None:
        """Write the files of all steps that the pool fills; `num_seen` records, kept or not, have been looked at."""
        while sum(len(item.example.input_ids) for item in self._pool) >= self._rows_per_step * self._context_length:
            self._write_step(num_seen)

    def finish(self, num_seen: int, fingerprint: str) -> None:
        """Deal out the rest and publish the manifest, which holds what packing.pack reports and the number of steps."""
        while self._pool:
            self._write_step(num_seen)
        files = [step_file(self._packed, step) for step in range(self._counts["steps"])]
        fill = self._counts["tokens"] / (self._counts["rows"] * self._context_length)
        write_manifest(self._packed, fingerprint, files, {**self._counts, "context_length": self._context_length, "fill": fill})

    def _write_step(self, num_seen: int) -> None:
        bins = first_fit_decreasing([len(item.example.input_ids) for item in self._pool], self._context_length)
        bins = bins.part(0, self._rows_per_step)
        members = bins.members_E.tolist()
        rows = packed_rows(example_table((self._pool[index].record_id, self._pool[index].example) for index in members), bins.ends_B)
        taken = set(members)
        self._pool = [item for index, item in enumerate(self._pool) if index not in taken]
        share = (num_seen - len(self._pool)) / self._num_records
        with atomic_write(step_file(self._packed, self._counts["steps"])) as temporary:
            marked = rows.replace_schema_metadata({SHARE: str(share)})
            pq.write_table(marked, temporary, row_group_size=ROWS_PER_GROUP, compression="none", use_dictionary=False)
        self._count(rows)

    def _count(self, rows: pa.Table) -> None:
        """Count the rows of one step."""
        record_ids = pc.list_flatten(rows["record_ids"]).to_pylist()
        self._dealt.update(record_ids)
        tokens, targets = (pc.sum(rows[name]).as_py() for name in ("num_tokens", "num_targets"))
        step = {"examples": len(record_ids), "rows": rows.num_rows, "tokens": tokens, "target_tokens": targets, "steps": 1}
        self._counts = {name: count + step[name] for name, count in self._counts.items()}
