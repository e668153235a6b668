"""Snapshots of a run directory on an object store: an index that names files by their content, replaced as a whole.

An object is a file's content, under the hash of it, and is never written twice; the index says which contents were the run directory at one
moment. It is replaced only in its last version, so that of two drivers that both believe that they hold the lease one alone goes on.
How to use: `snapshots = Snapshots(store, root)`; `snapshots.restore(number)` once; `snapshots.publish()` now and then.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from cgd_ray.data.rundir import read_json, write_json
from cgd_ray.runs.remote.leasing import LostError
from cgd_ray.runs.remote.objects import CHUNK_BYTES, ChangedError, Objects, StoreError, Tag
from cgd_ray.runs.remote.scanning import Stamp, is_unchanged, scan

INDEX, CONTENTS = "snapshot.json", "contents/"
VERSION = 1
T = TypeVar("T")
AT_ONCE = 8
"""Files on their way to the store or from it."""


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    sha256: str
    bytes: int


Index = dict[str, Content]
"""By the file's path in the run directory."""


class Snapshots:
    """The snapshots of one run directory, and its working copy `root`. Methods raise StoreError."""

    def __init__(self, store: Objects, root: Path) -> None:
        self._store, self._root = store, root
        self._known = root.with_name(f"{root.name}.snapshot.json")
        """Which snapshot the working copy has come from or become, by the hash of its index, and what its files held then."""
        self._number = 0
        self._tag: Tag | None = None
        self._published = ""
        """Hash of the index that the store has."""
        self._index: Index = {}
        self._there: set[Content] = set()
        """Contents that the store has, or may have."""
        self._stamps: dict[str, Stamp] = {}
        """Of the files whose content the index has."""

    def restore(self, number: int) -> int:
        """Make the working copy what the store has, unless it is that already, or what has become of it since; returns how many files came.

        `number` is that of the lease under which snapshots are published from now on: what an earlier holder publishes is refused.
        """
        came = self.look()
        self._number = number
        self._publish_index(self._index)
        self._remove_orphans()
        return came

    def look(self) -> int:
        """The same for those who only read: the store stays as it is."""
        found = self._store.read(INDEX)
        known = self._read_known()
        if found is None:
            return 0
        content, self._tag = found
        self._index = _parsed(content, self._store.url)
        self._there = set(self._index.values())
        self._published = _hashed([content])
        if known is not None and self._published in known["snapshots"]:
            self._stamps = {name: Stamp(*stamp) for name, stamp in known["stamps"].items()}
            return 0
        return self._fetch()

    def publish(self) -> bool:
        """Bring what has changed to the store; False where something was committed meanwhile, so that it is to be tried again.

        Raises LostError when another driver has published.
        """
        files = scan(self._root)
        if files == self._stamps:
            return True
        index: Index = {name: self._index[name] for name in files if files[name] == self._stamps.get(name)}
        stamps = {name: files[name] for name in index}
        try:
            for name, stored in self._in_parallel(self._stored, files.keys() - index.keys()):
                if stored is not None:
                    index[name], stamps[name] = stored
        except _TornError:
            return False
        if not is_unchanged(self._root, files):
            return False
        self._stamps = stamps
        self._publish_index(index)
        return True

    def _stored(self, name: str) -> tuple[Content, Stamp] | None:
        """Bring a file to the store as it is now, and tell what that was; None when it is gone, which no commit is."""
        try:
            file = (self._root / name).open("rb")
        except FileNotFoundError:
            return None
        with file:
            stamp = Stamp.of(file.fileno())
            whole = file.read(stamp.bytes) if stamp.bytes <= CHUNK_BYTES else None
            if whole is not None:
                content = Content(_hashed([whole]), len(whole))
            else:
                content = Content(_hashed(_pieces(file, stamp.bytes)), stamp.bytes)
                file.seek(0)
            if content not in self._there:
                self._store.upload(_object(content), [whole] if whole is not None else _checked(_pieces(file, stamp.bytes), content))
                self._there.add(content)
        return content, stamp

    def _fetch(self) -> int:
        """Make the working copy what the index says; what is there with the same content stays."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._known.unlink(missing_ok=True)  # from here to the end it is neither
        for path in [path for path in self._root.rglob("*") if path.is_file() and str(path.relative_to(self._root)) not in self._index]:
            path.unlink()
        lacking = [name for name, content in self._index.items() if not _holds(_inside(self._root, name), content)]
        list(self._in_parallel(self._fetched, lacking))
        self._stamps = {name: Stamp.of(self._root / name) for name in self._index}
        self._write_known(self._published)
        return len(lacking)

    def _fetched(self, name: str) -> None:
        path, content = self._root / name, self._index[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._store.download(_object(content), temporary)
            if not _holds(temporary, content):
                raise StoreError(f"{self._store.url}/{_object(content)} is not what its name says; {name} of the run is lost there")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _in_parallel(self, work: Callable[[str], T], names: Iterable[str]) -> Iterator[tuple[str, T]]:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            futures = {name: threads.submit(work, name) for name in names}
            try:
                for name, future in futures.items():
                    yield name, future.result()
            finally:
                for future in futures.values():
                    future.cancel()

    def _publish_index(self, index: Index) -> None:
        entries = {name: [content.sha256, content.bytes] for name, content in index.items()}
        content = json.dumps({"version": VERSION, "lease": self._number, "files": entries}).encode()
        new = _hashed([content])
        self._write_known(self._published, new)  # a kill here leaves a copy that has come from either
        try:
            self._tag = self._store.create(INDEX, content) if self._tag is None else self._store.replace(INDEX, content, self._tag)
        except ChangedError:
            found = self._store.read(INDEX)
            if found is None or found[0] != content:  # else it is ours, and the answer was lost on its way
                raise LostError(f"run_dir {self._store.url} was taken over; this driver ends and writes no more") from None
            self._tag = found[1]
        self._index, self._published = dict(index), new
        self._write_known(new)
        unused = self._there - set(index.values())
        self._there -= unused
        self._store.remove([_object(content) for content in unused])

    def _remove_orphans(self) -> None:
        """What a driver that was killed has brought and not published."""
        kept = {_object(content) for content in self._there}
        self._store.remove([name for name in self._store.names(CONTENTS) if name not in kept])

    def _read_known(self) -> Mapping[str, Any] | None:
        with suppress(ValueError):
            known = read_json(self._known)
            return known if known is not None and known["url"] == self._store.url else None
        return None

    def _write_known(self, *snapshots: str) -> None:
        stamps = {name: list(asdict(stamp).values()) for name, stamp in self._stamps.items()}
        write_json(self._known, {"url": self._store.url, "snapshots": snapshots, "stamps": stamps})


class _TornError(Exception):
    """A file became another one while it was read."""


def _parsed(content: bytes, url: str) -> Index:
    try:
        found = json.loads(content)
        version = found["version"]
        files = {name: Content(str(sha256), int(size)) for name, (sha256, size) in found["files"].items()} if version == VERSION else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"run_dir {url}: {INDEX} is not what cgd_ray writes; choose another run_dir") from error
    if version != VERSION:
        raise ValueError(f"run_dir {url} has a snapshot of version {version}, not {VERSION}; use another version of cgd_ray")
    return files


def _inside(root: Path, name: str) -> Path:
    """The path of a file of the index, which is in the working copy. Raises ValueError for one that leads out of it."""
    path = root / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"the snapshot names {name!r}, which is outside of the run directory; it was not written by cgd_ray")
    return path


def _object(content: Content) -> str:
    return CONTENTS + content.sha256


def _holds(path: Path, content: Content) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size != content.bytes:
        return False
    with path.open("rb") as file:
        return _hashed(_pieces(file, content.bytes)) == content.sha256


def _pieces(file: Any, num_bytes: int) -> Iterator[bytes]:
    left = num_bytes
    while left:
        piece = file.read(min(left, CHUNK_BYTES))
        if not piece:
            raise _TornError
        left -= len(piece)
        yield piece


def _hashed(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _checked(pieces: Iterable[bytes], content: Content) -> Iterator[bytes]:
    """The pieces again. Raises _TornError at the end when they have become others, so that no object has another content than its name."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != content.sha256:
        raise _TornError
