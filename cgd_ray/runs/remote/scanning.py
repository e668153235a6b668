"""What a snapshot of a run directory consists of: files as a kill at one moment could have left them, though the look takes longer.

A run directory is written so that whatever a kill leaves can be gone on from: commits (manifests, the ids of committed parts) come after
what they speak of, and only what is committed counts. So the commits are looked at first and everything else after them, parts that no
commit names are left out, and a snapshot during which a commit has changed is none.
How to use: `files = scan(root)`; copy them; `if is_unchanged(root, files): ...`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cgd_ray.data.durable import IDS, PENDING_SUFFIX, committed, parts_of
from cgd_ray.data.rundir import RunDir

MANIFEST = "manifest.json"
STATE_SUFFIX = "_state"
"""Of the directory in which a generation of answers keeps what it must remember, beside that of the answers."""


@dataclass(frozen=True)
class Stamp:
    """By which a file is known to be the same as before."""

    inode: int
    bytes: int
    changed_ns: int

    @classmethod
    def of(cls, file: Path | int) -> "Stamp":
        """Of a path or an open file's descriptor. Raises FileNotFoundError."""
        status = os.stat(file)
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


Files = dict[str, Stamp]
"""By their paths in the run directory."""


def scan(root: Path) -> Files:
    """The files of a snapshot."""
    commits = {path: stamp for path, stamp in _walk(root) if _is_commit(path)}
    unfinished = _unfinished_outputs(root, commits)
    parts = {part for output, ids in unfinished.items() for part in parts_of(ids, output)}
    others = {path: stamp for path, stamp in _walk(root) if not _is_commit(path) and (path.parent not in unfinished or path in parts)}
    return {str(path.relative_to(root)): stamp for path, stamp in {**others, **commits}.items()}


def is_unchanged(root: Path, files: Files) -> bool:
    """Whether all commits of a snapshot are there as they were; other files may have become newer, or be gone, at any moment."""
    try:
        return all(Stamp.of(root / name) == stamp for name, stamp in files.items() if _is_commit(root / name))
    except FileNotFoundError:
        return False


def _unfinished_outputs(root: Path, commits: dict[Path, Stamp]) -> dict[Path, list[Path]]:
    """Directories that Ray writes parts into, each with the ids of those that are committed."""
    run = RunDir(root)
    states = {path.parent.parent for path in commits if path.parent.name == IDS}
    states |= {run.generation_state} if run.generation_state.exists() else set()
    outputs = {}
    for state in states:
        output = run.records if state == run.generation_state else state.with_name(state.name.removesuffix(STATE_SUFFIX))
        ids = [path for path in committed(state / IDS) if path in commits] if (state / IDS).exists() else []
        if output / MANIFEST not in commits:
            outputs[output] = ids
    return outputs


def _is_commit(path: Path) -> bool:
    return path.name == MANIFEST or path.parent.name == IDS


def _walk(root: Path) -> Iterator[tuple[Path, Stamp]]:
    """Regular files with their stamps, but for those that are being written, or that mean this machine's processes."""
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if not (name == "lease" and Path(directory) == root / "work")]
        for name in files:
            path = Path(directory) / name
            if name.startswith(".") or name.endswith(PENDING_SUFFIX) or path.is_symlink():
                continue
            try:
                yield path, Stamp.of(path)
            except FileNotFoundError:
                continue  # it was removed just now
