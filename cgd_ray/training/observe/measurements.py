"""validation.jsonl: a line for each checkpoint whose student has answered the held-out problems, or for why it could not.

One process writes it, the driver; what is in it decides which checkpoints are kept and which is the best (checkpoints/store.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cgd_ray.data.rundir import atomic_write

Measurement = Mapping[str, Any]
"""step, and either pass@1, pass@1_interval, num_problems, truncated and so on, as in an evaluation's report, or problem: the reason."""
MeasurementsByStep = Mapping[int, Measurement]


def read_measurements(path: Path) -> dict[int, Measurement]:
    """All lines by step, in the order in which they came; none when there is no file yet."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line for line in lines}


def add_measurement(path: Path, line: Measurement) -> None:
    """Publish a line; it replaces an earlier one of its step."""
    lines = {**read_measurements(path), line["step"]: line}.values()
    with atomic_write(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
