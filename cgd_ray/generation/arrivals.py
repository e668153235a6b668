"""The parts of a generation's records, each once, as soon as they are durably written: for whoever works on while it still runs.

A part counts once the ids that it holds are committed (dataflow.py); before that a killed run takes it back.
How to use: `arrivals = Arrivals(run)`, then now and then `for part in arrivals.new(): ...`; after the generation, once more.
"""

import os
from contextlib import suppress
from pathlib import Path

from cgd_ray.generation.dataflow import IDS, PENDING_SUFFIX
from cgd_ray.generation.finished import record_parts
from cgd_ray.rundir import RunDir, read_manifest


class Arrivals:
    """What has been written of a run's records, from the first part on, also those that a former driver has seen written."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._commits: set[str] = set()
        self._parts: set[Path] = set()

    def new(self) -> list[Path]:
        """Parts that were not returned before. Raises ValueError for what record_parts() refuses."""
        is_finished = read_manifest(self._run.records) is not None
        parts = record_parts(self._run.records) if is_finished else self._newly_committed()
        new = [part for part in parts if part not in self._parts]
        self._parts.update(new)
        return new

    def _newly_committed(self) -> list[Path]:
        names: set[str] = set()
        with suppress(FileNotFoundError):  # the generation has not begun, or it ends just now and its manifest tells next time
            names = {name for name in os.listdir(self._run.generation_state / IDS) if not name.endswith(PENDING_SUFFIX)}
        commits = sorted(names - self._commits)
        self._commits.update(commits)
        return [part for commit in commits for part in sorted(self._run.records.glob(f"{Path(commit).stem}*.parquet"))]
