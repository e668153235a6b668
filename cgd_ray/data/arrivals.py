"""The parts of a generation's records, each once, as soon as they are durably written: for whoever works on while it still runs.

How to use: `arrivals = Arrivals(run)`, then now and then `for part in arrivals.new(): ...`; after the generation, once more.
"""

from contextlib import suppress
from pathlib import Path

from cgd_ray.data.durable import IDS, committed, parts_of, record_parts
from cgd_ray.data.rundir import RunDir, read_manifest


class Arrivals:
    """What has been written of a run's records, from the first part on, also those that a former driver has seen written."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._commits: set[Path] = set()
        self._parts: set[Path] = set()

    def new(self) -> list[Path]:
        """Parts that were not returned before. Raises ValueError for what record_parts() refuses."""
        is_finished = read_manifest(self._run.records) is not None
        parts = record_parts(self._run.records) if is_finished else self._newly_committed()
        new = [part for part in parts if part not in self._parts]
        self._parts.update(new)
        return new

    def _newly_committed(self) -> list[Path]:
        commits: list[Path] = []
        with suppress(FileNotFoundError):  # the generation has not begun, or it ends just now and its manifest tells next time
            commits = [ids for ids in committed(self._run.generation_state / IDS) if ids not in self._commits]
        self._commits.update(commits)
        return [part for ids in commits for part in parts_of(ids, self._run.records)]
