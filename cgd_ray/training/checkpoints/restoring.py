"""The newest good checkpoint, found by all ranks together: rank 0 looks for one, and each rank reads its share of the files.

A checkpoint has six times the bytes of a model in bf16 (840 GB for 70B), which one process would read for a quarter of an hour and more.
How to use, on all ranks: `found = newest_good(checkpoints, fingerprint, plan.consumed, meeting)`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cgd_ray.training.checkpoints.store import Saved, changed_parts, newest, remove_leftovers
from cgd_ray.training.meeting import Meeting

_Question = tuple[Path, Sequence[Mapping[str, Any]]]
"""A checkpoint that is to be read, and its files."""


def newest_good(checkpoints: Path, name: str, consumed: Callable[[int], str | None], meeting: Meeting) -> Saved | None:
    """store.newest(), the same on all ranks; a collective. What killed writers have left is removed before."""
    found: Saved | ValueError | _Question | None = None
    if meeting.rank == 0:
        remove_leftovers(checkpoints)
        try:
            found = newest(checkpoints, name, consumed, lambda directory, parts: _changed(meeting.told((directory, parts)), meeting))
        except ValueError as error:
            found = error
        meeting.told(found)
    else:
        while isinstance(found := meeting.told(found), tuple):
            _changed(found, meeting)
    if isinstance(found, ValueError):
        raise found
    assert not isinstance(found, tuple), "all questions are answered"
    return found


def _changed(question: _Question, meeting: Meeting) -> list[str]:
    """The damaged files; each rank reads its share, which one rank has written where their number is the same."""
    directory, parts = question
    shares = meeting.all(changed_parts(directory, parts[meeting.rank :: meeting.world_size]))
    return [path for share in shares for path in share]
