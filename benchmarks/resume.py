"""How long a generation that was killed takes to find out what is made, as its parts become more.

`python -m benchmarks.resume [--json PATH]`: 1,000 and 10,000 parts with their committed ids, everything made but nothing published, as a
kill before the manifest leaves it. *Found* is what precedes the engines of a run that goes on: the ids, counts and failures of all parts
are read. *Published* is the call that ends it: it looks again, reads every row, and puts every part to the disk and into the manifest.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import write_figures
from benchmarks.packing import make_records
from cgd_ray.cluster.connection import connected
from cgd_ray.config import ClusterConfig, Config, load_config
from cgd_ray.data.durable import ALWAYS_THERE, BEGUN, IDS
from cgd_ray.data.ids import Ids
from cgd_ray.data.records import RECORD_SCHEMA, RECORDS_VERSION, WORK_SCHEMA, make_record_id
from cgd_ray.data.rundir import RunDir, write_json
from cgd_ray.generation.dataflow import Dataflow
from cgd_ray.generation.pipeline import generate, records_fingerprint
from cgd_ray.problems.work_list import write_work_list

ROWS_PER_PART = 16
CONFIG = "jobs/configs/tinymath.yaml"


def write_unfinished(config: Config, run: RunDir, num_parts: int) -> None:
    """A run directory whose generation has made everything and has not said so."""
    ids = run.generation_state / IDS
    for directory in (run.records, ids):
        directory.mkdir(parents=True)
    rows = pa.Table.from_pylist(make_records(ROWS_PER_PART), schema=pa.schema([RECORD_SCHEMA.field(name) for name in ALWAYS_THERE]))
    parts = []
    for number in range(num_parts):
        names = pa.array([make_record_id(f"{number} {index}", 0) for index in range(ROWS_PER_PART)])
        parts.append(rows.set_column(rows.schema.get_field_index("record_id"), "record_id", names))
        pq.write_table(parts[-1], run.records / f"{number:06}-0.parquet")
        pq.write_table(parts[-1].select(["record_id"]), ids / f"{number:06}.parquet")
    write_work_list(pa.concat_tables(parts).select(WORK_SCHEMA.names), run.work_list)
    write_json(run.generation_state / BEGUN, {"fingerprint": records_fingerprint(config), "version": RECORDS_VERSION})


def resumed(root: Path, num_parts: int) -> dict[str, Any]:
    """Seconds of both, and what was found."""
    roles = [f"{role}.engine={{dtype: float32}}" for role in ("student", "teacher")]
    config = load_config(CONFIG, [f"run_dir={root / str(num_parts)}", "generation.teacher_check=null", *roles])
    run = RunDir(config.run_dir)
    write_unfinished(config, run, num_parts)
    started = time.perf_counter()
    look(config, run)
    found = time.perf_counter()
    manifest = generate(config, run)
    done = time.perf_counter()
    times = {"found_s": found - started, "published_s": done - found}
    sys.stdout.write(
        f"{num_parts:>6,} parts, {manifest['resumed']:>7,} rows: " + ", ".join(f"{k} {v:5.2f}" for k, v in times.items()) + "\n"
    )
    return {"parts": num_parts, "rows": manifest["resumed"], **times}


def look(config: Config, run: RunDir) -> None:
    """What generate() does before it starts engines."""
    settings = config.generation
    flow = Dataflow(
        work_list=run.work_list,
        output=run.records,
        state=run.generation_state,
        batch_size=settings.batch_size,
        rows_per_file=settings.rows_per_block,
    )
    flow.drop_uncommitted()
    flow.written(["attempt", "critique", "refinement"])
    work = pq.read_table(run.work_list, columns=["record_id"])
    assert not Ids(flow.finished_ids()).lacks(work["record_id"].combine_chunks()).true_count


def main() -> None:
    """Print the figures, and write them to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--parts", type=int, nargs="+", default=[1_000, 10_000])
    arguments = parser.parse_args()
    with connected(ClusterConfig(num_cpus=2)), tempfile.TemporaryDirectory() as root:
        write_figures({"resume": [resumed(Path(root), count) for count in arguments.parts]}, arguments.json)


if __name__ == "__main__":
    main()
