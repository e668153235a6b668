"""Saves checkpoints while the training goes on: the state is copied to host memory, and a thread writes, hashes and publishes it.

The ranks' threads meet in files alone, on the storage that holds the checkpoints: each leaves a note when its file is durable, and rank 0
publishes when all notes are there. A kill at any moment leaves the checkpoint before. One save is on its way at a time.
How to use: `saver.start(tensors, details)` after a step, `saver.finish()` before the next start and at the end, on all ranks.
"""

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cgd_ray.training.checkpoints import store as checkpoints
from cgd_ray.training.checkpoints.shards import SUFFIX, write_shard
from cgd_ray.training.model.zero_state import Range
from cgd_ray.training.observe.measurements import read_measurements

POLL_INTERVAL_S = 0.02  # between looks for the other ranks' notes


class Saver:
    """One rank's part in every save."""

    def __init__(self, directory: Path, fingerprint: str, attempt: str, rank: int, world_size: int, keep: int, measured: Path) -> None:
        """`attempt` names this start of the training, the same on all ranks: an earlier one's late writers are not in the way.

        `measured` is the file that tells how good the checkpoints are (observe/measurements.py).
        """
        self._directory, self._fingerprint, self._attempt = directory, fingerprint, attempt
        self._rank, self._world_size, self._keep, self._measured = rank, world_size, keep, measured
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, tensors: Mapping[Range, torch.Tensor], details: Mapping[str, Any]) -> None:
        """Begin to write; `tensors` belong to the saver from now on, `details` (step and what else) go into the manifest."""
        assert self._thread is None, "one save at a time"
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(tensors, details), daemon=True, name="checkpoint")
        self._thread.start()

    def finish(self) -> None:
        """Wait for the save that is on its way; on rank 0 it is published then. Raises what went wrong with it."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if self._error is not None:
            raise self._error

    def _run(self, tensors: Mapping[Range, torch.Tensor], details: Mapping[str, Any]) -> None:
        try:
            self._write(tensors, details)
        except BaseException as error:  # a thread has nobody to tell; finish() does
            self._error = error

    def _write(self, tensors: Mapping[Range, torch.Tensor], details: Mapping[str, Any]) -> None:
        final = checkpoints.directory_of(self._directory, details["step"])
        writing = final.with_name(f".{final.name}.{self._attempt}.tmp")
        writing.mkdir(parents=True, exist_ok=True)
        shard = writing / f"rank-{self._rank:05d}{SUFFIX}"
        sha256 = write_shard(shard, tensors)
        _put_note(_note(writing, self._rank), {"path": shard.name, "bytes": shard.stat().st_size, "sha256": sha256})
        if self._rank == 0:
            parts = [_wait_for(_note(writing, rank)) for rank in range(self._world_size)]
            checkpoints.publish(writing, self._directory, self._fingerprint, parts, details)
            checkpoints.prune(self._directory, self._keep, details["step"], read_measurements(self._measured))


def _put_note(note: Path, content: Mapping[str, Any]) -> None:
    """Tell rank 0 that this rank's shard is on the disk, as the very last thing: rank 0 renames the directory once it has all notes."""
    temporary = note.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    os.replace(temporary, note)


def _note(directory: Path, rank: int) -> Path:
    return directory / f"rank-{rank:05d}.json"


def _wait_for(note: Path) -> dict[str, Any]:
    """The note, once it is there; a rank that dies before it writes one ends the whole worker group, this process too."""
    while not note.exists():
        time.sleep(POLL_INTERVAL_S)
    content: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return content
