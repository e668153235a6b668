"""A run directory for the tests of health and view, filled by the project's own writers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import Config
from cgd_ray.data.durable import BEGUN, IDS
from cgd_ray.data.records import PROBLEM_SCHEMA, RECORD_SCHEMA, RECORDS_VERSION, TURNS, make_record_id
from cgd_ray.data.rundir import RunDir, write_json, write_manifest
from cgd_ray.problems.work_list import make_work_list, write_work_list
from cgd_ray.reporting.health.watch import HealthWatch
from cgd_ray.training.observe.metrics import MetricsLog

ROWS_PER_PART = 32
STUDENT_TOKENS = 100
"""sampling.max_tokens of the student."""


class MadeRun:
    """A run of so many problems, at first without anything generated."""

    def __init__(self, root: Path, num_problems: int = 1000) -> None:
        self.directory = RunDir(root)
        role = {"model": "some-body/some-model", "sampling": {"max_tokens": STUDENT_TOKENS}}
        self.config = Config.model_validate({"run_dir": str(root), "problems": {"path": "p"}, "student": role, "teacher": role})
        self.directory.claim(self.config)
        problems = [{"problem_id": f"p{index}", "question": f"What is {index} + 1?"} for index in range(num_problems)]
        write_work_list(make_work_list(pa.Table.from_pylist(problems, schema=PROBLEM_SCHEMA), 1), self.directory.work_list)
        write_json(self.directory.generation_state / BEGUN, {"fingerprint": "f", "version": RECORDS_VERSION})
        self._num_rows = self._num_parts = 0

    def add_records(self, count: int, **columns: Any) -> list[Path]:
        """Commit so many sound records more; `columns` replace theirs."""
        parts = []
        for start in range(0, count, ROWS_PER_PART):
            rows = [self._record() | columns for _ in range(min(ROWS_PER_PART, count - start))]
            parts.append(self._commit(rows))
        return parts

    def finish(self) -> None:
        """End the generation."""
        parts = sorted(self.directory.records.glob("*.parquet"))
        tokens = {turn: {"prompt_tokens": 0, "cached_tokens": 0, "tokens": 0} for turn in TURNS}
        counts = {"rows": self._num_rows, "failed": 0, "errors": {}, "tokens": tokens, "reused": {}, "engine_seconds": {}}
        write_manifest(self.directory.records, "f", parts, {"version": RECORDS_VERSION, **counts})

    def add_steps(self, lines: Sequence[dict[str, float]]) -> None:
        """Write the steps of a training."""
        self.directory.metrics.parent.mkdir(parents=True, exist_ok=True)
        log = MetricsLog(self.directory.metrics, 0)
        for line in lines:
            log.write(line)
        log.close()

    def titles(self) -> list[str]:
        """What one look finds."""
        return [advisory.title for advisory in HealthWatch(self.directory).look()]

    def _commit(self, rows: Sequence[dict[str, Any]]) -> Path:
        name = f"session_{self._num_parts:06}"
        self._num_parts += 1
        self.directory.records.mkdir(exist_ok=True)
        part, ids = self.directory.records / f"{name}-0.parquet", self.directory.generation_state / IDS / f"{name}.parquet"
        table = pa.Table.from_pylist(list(rows), schema=RECORD_SCHEMA)
        pq.write_table(table, part)
        ids.parent.mkdir(exist_ok=True)
        pq.write_table(table.select(["record_id"]), ids)
        return part

    def _record(self) -> dict[str, Any]:
        number = self._num_rows
        self._num_rows += 1
        verdict = ("right", "wrong", "wrong")[number % 3]
        record: dict[str, Any] = dict.fromkeys(RECORD_SCHEMA.names)
        for turn, text in {
            "attempt": f"I say \\boxed{{{number}}}.",
            "critique": f"The last step of number {number} is off. Conclusion: {verdict}",
            "refinement": f"Adding one to {number} makes \\boxed{{{number + 1}}}.",
        }.items():
            record |= {turn: text, f"{turn}_finish_reason": "stop", f"{turn}_tokens": 20, f"{turn}_prompt_tokens": 10}
        return record | {
            "record_id": make_record_id(f"p{number}", 0),
            "sample_index": 0,
            "problem_id": f"p{number}",
            "question": f"What is {number} + 1?",
            "reference_answer": str(number + 1),
            "verdict": verdict,
        }


def steps(count: int, first: int = 1, **figures: float) -> list[dict[str, float]]:
    """The lines of a training that goes well: a loss that falls and scatters a little; `figures` replace theirs."""
    return [
        {
            "train/step": number,
            "train/loss": 2.0 / (1 + number / 50) + 0.05 * (number % 3),
            "train/grad_norm": 1.0 + 0.2 * (number % 5),
            "train/world_size": 2,
            "train/tokens_per_s": 1000.0 + 50 * (number % 4),
            "time/data_s": 0.01,
            "time/step_s": 1.0,
            **{name.replace("_", "/", 1): value for name, value in figures.items()},
        }
        for number in range(first, first + count)
    ]
