"""A benchmark's problems as a work list, from the hub or from a file with the same columns, checked to be what was published.

All rows count, as published, also where a question is there twice. A problem's id is a hash of its question, so that it is the same
whatever the file and the order; of a question that comes again it has the number added.
How to use: `table = load_benchmark(benchmark_named(config.name), config, num_samples, notes)`; `content_sha256(table)` names what is in it.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from cgd_ray.config import BenchmarkConfig, SourceConfig
from cgd_ray.data.records import PROBLEM_SCHEMA, WORK_SCHEMA
from cgd_ray.evaluation.benchmarks.catalogue import Benchmark
from cgd_ray.problems.reading import READERS
from cgd_ray.problems.rows import Row
from cgd_ray.problems.sources import Problem, read_problems
from cgd_ray.problems.work_list import make_work_list

FIELDS = "fields"
"""Column of a benchmark's work list with what its grader needs besides the reference, as JSON; null where it needs nothing."""
MESSAGES = "messages"
"""Column of a work list with the conversations that are asked in place of the problems alone, where there are such."""
SCHEMA = pa.schema([*WORK_SCHEMA, pa.field(FIELDS, pa.string())])


def load_benchmark(benchmark: Benchmark, config: BenchmarkConfig, num_samples: int, notes: list[str]) -> pa.Table:
    """A row for each problem and sample.

    Raises ValueError, one line that names the benchmark, for one that cannot be read, has not the published size, or lacks an answer.
    """
    rows = _rows(benchmark, source_of(benchmark, config), notes)
    problems = [problem for _, problem in rows]
    seen: Counter[str] = Counter()
    fields: dict[str, str | None] = {}
    for row, problem in rows:
        name = problem["problem_id"]
        assert name is not None, "it is a hash where no column is mapped"
        seen[name] += 1
        name = problem["problem_id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"
        others = benchmark.form.fields(row.columns)
        fields[name] = json.dumps(others, sort_keys=True) if others else None
    work = make_work_list(pa.Table.from_pylist(problems, schema=PROBLEM_SCHEMA), num_samples)
    column = pa.array([fields[name] for name in work["problem_id"].to_pylist()], pa.string())
    return pa.Table.from_arrays([*work.columns, column], schema=SCHEMA)


def _rows(benchmark: Benchmark, source: SourceConfig, notes: list[str]) -> list[tuple[Row, Problem]]:
    """The problems with the rows that they are from. Raises ValueError unless they are as many as published, and each has an answer."""
    setting = f"evaluation.benchmarks.{benchmark.name}"
    rows = read_problems(source, setting, notes, benchmark.form.columns)
    if len(rows) != benchmark.size:
        at = "" if source.revision is None else f" at revision {source.revision}"
        raise ValueError(
            f"{setting}.path {source.path}{at} has {len(rows):,} problems, and {benchmark.name} as published {benchmark.size:,}; give the "
            "whole of it, or ask a part of it by evaluation.problems"
        )
    lacking = sum(problem["reference_answer"] is None for _, problem in rows)
    if lacking and benchmark.fields.reference_answer is not None:
        raise ValueError(
            f"{setting}.path {source.path} has no answer to {lacking:,} of {len(rows):,} problems; give a file with all of them"
        )
    return rows


def source_of(benchmark: Benchmark, config: BenchmarkConfig) -> SourceConfig:
    """Where a benchmark is read from: a given file, else the hub, or its own file."""
    settings: dict[str, Any] = {"fields": benchmark.fields, "reference_answer_pattern": benchmark.reference_answer_pattern}
    path = config.path or benchmark.place
    if Path(path).suffix not in READERS or Path(path).is_dir():  # a single file has neither
        settings |= {"subset": benchmark.subset, "split": benchmark.split}
    if config.path is None:
        settings["revision"] = config.revision or benchmark.revision
    return SourceConfig(path=path, **settings)


def content_sha256(work: pa.Table) -> str:
    """Hex SHA-256 of what is asked in a work list and how it is graded, in its order; samples of one problem count once."""
    digest = hashlib.sha256()
    names = ["question", "reference_answer", *(name for name in (FIELDS, MESSAGES) if name in work.column_names)]
    for row in work.select(["sample_index", *names]).to_pylist():
        if row["sample_index"] == 0:
            digest.update(json.dumps([row[name] for name in names]).encode() + b"\n")
    return digest.hexdigest()
