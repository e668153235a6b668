"""What the critique does for each token of a refinement, where that was measured: the gain in log-likelihood, for the page's shading.

Read from diagnostics/token_gains.parquet: record_id, tokens (list of texts) and gain (list of nats, one for each token).
How to use: `token_gains(run, record_ids)`; empty where nothing was measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cgd_ray.data.rundir import RunDir
from cgd_ray.reporting.page.reading import read_columns

DIGITS = 3


def token_gains(run: RunDir, record_ids: Sequence[str]) -> dict[str, list[list[Any]]]:
    """record_id -> [token, gain] of each token in order, for those of the records that have some."""
    file = gains_file(run)
    if not file.exists():
        return {}
    found = read_columns(file, ("record_id", "tokens", "gain"))
    found = found.filter(pc.is_in(found["record_id"], pa.array(record_ids, pa.string())))
    return {
        row["record_id"]: [[token, round(gain, DIGITS)] for token, gain in zip(row["tokens"], row["gain"], strict=True)]
        for row in found.to_pylist()
    }


def gains_file(run: RunDir) -> Path:
    """Where they are, if anywhere."""
    return run.diagnostics / "token_gains.parquet"
