"""The records of a finished generation, of this run or of another one, as far as this version of the code understands them.

How to use: `for part in record_parts(run.records): ...`.
"""

from pathlib import Path

import pyarrow.parquet as pq

from cgd_ray.records import RECORD_SCHEMA, STAGES, WORK_SCHEMA, check_version, columns_of
from cgd_ray.rundir import read_manifest

ALWAYS_THERE = (*WORK_SCHEMA.names, *(name for stage in STAGES for name in columns_of(stage)))
"""The columns of RECORD_SCHEMA that every generation writes."""


def record_parts(directory: Path) -> list[Path]:
    """The Parquet files. Raises ValueError when the generation is unfinished, or when its records are of another version or schema."""
    manifest = read_manifest(directory)
    if manifest is None:
        raise ValueError(f"records {directory} holds no finished records (no manifest.json); give RUN_DIR/records of a finished generation")
    check_version(manifest, directory)
    parts = [directory / part["path"] for part in manifest["parts"]]
    found = {field.name: field.type for field in pq.read_schema(parts[0])}
    expected = {name: RECORD_SCHEMA.field(name).type for name in ALWAYS_THERE}
    if different := [f"{name} is {found.get(name, 'missing')}, not {kind}" for name, kind in expected.items() if found.get(name) != kind]:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise ValueError(f"records {directory} are not what cgd_ray writes: {different[0]}{more}; give RUN_DIR/records of a generation")
    return parts
