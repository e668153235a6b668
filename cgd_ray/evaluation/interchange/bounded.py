"""Files that others made, read as if they meant harm: no more than a limit is unpacked or kept, and nothing is written.

A member of an archive is only ever read, by the name that the archive itself lists, so a name like ../../x leads nowhere. Python 3.11's
zipfile has no Zstandard, in which Inspect compresses; pyarrow has. How to use: `with open_archive(path) as archive:
archive.read_object("header.json")`; `read_bounded_object(file)`; `for number, sample in read_lines(file): ...`.
"""

import copy
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from cgd_ray.data.json_text import parse_json, read_object

MEMBER_LIMIT = 2**28
"""Bytes of one unpacked member: a sample of Inspect's with all its events is some MB."""
ARCHIVE_LIMIT = 2**35
"""Bytes of all members, unpacked."""
FILE_LIMIT = 2**30
"""Bytes of a JSON file that has to be read in one piece."""
LINE_LIMIT = 2**27
"""Bytes of one line of JSON."""
ENCRYPTED = 0x1
ZSTANDARD = 93  # the compression method's number in APPNOTE 4.4.5


class Archive:
    """The JSON in a zip file."""

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self._path, self._zip = path, opened
        self.names = list(dict.fromkeys(opened.namelist()))
        """Each once: of members with one name the last counts, as for Inspect."""
        members = [opened.getinfo(name) for name in self.names]
        largest = max(members, key=lambda member: member.file_size, default=None)
        if largest is not None and largest.file_size > MEMBER_LIMIT:
            raise ValueError(f"{path}: {largest.filename[:80]!r} {_too_large(largest.file_size, MEMBER_LIMIT)}")
        if (total := sum(member.file_size for member in members)) > ARCHIVE_LIMIT:
            raise ValueError(f"{path} {_too_large(total, ARCHIVE_LIMIT)}")

    def read_object(self, name: str) -> dict[str, Any]:
        """The object in a member. Raises ValueError, one line, when there is none."""
        content = self.read(name)
        if not isinstance(content, dict):
            raise ValueError(f"{self._path}: {name[:80]!r} holds {type(content).__name__}, not an object; write the log again")
        return content

    def read(self, name: str) -> Any:
        """The JSON in a member."""
        try:
            return parse_json(self._unpacked(self._zip.getinfo(name)).decode("utf-8"))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise ValueError(f"{self._path} is a damaged archive ({name[:80]!r}: {error}); copy it again") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._path}: {name[:80]!r} is not UTF-8 text ({error}); write the log again") from None
        except ValueError as error:
            raise ValueError(f"{self._path}: {name[:80]!r} holds {error}; write the log again") from None

    def _unpacked(self, member: zipfile.ZipInfo) -> bytes:
        """The bytes, of which there are no more than the archive's directory says, whatever they would unpack to."""
        if member.flag_bits & ENCRYPTED:
            raise zipfile.BadZipFile("encrypted")
        if member.compress_type != ZSTANDARD:
            with self._zip.open(member) as stream:
                return stream.read(member.file_size)  # zipfile compares the checksum
        packed = copy.copy(member)  # the same bytes, as if they were not compressed
        packed.compress_type, packed.file_size, packed.CRC = zipfile.ZIP_STORED, member.compress_size, None  # type: ignore[assignment]
        with self._zip.open(packed) as stream, pa.CompressedInputStream(stream, "zstd") as unpacking:
            content: bytes = unpacking.read(member.file_size + 1)
        if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
            raise zipfile.BadZipFile("another size or checksum than the directory says")
        return content


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """A zip file of JSON. Raises ValueError, one line, when it is none or unpacks to too much."""
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no zip archive that can be read ({error}); copy it again") from None
    with opened:
        yield Archive(path, opened)


def read_bounded_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file of at most FILE_LIMIT bytes. Raises ValueError, one line, when there is none."""
    if (size := file.stat().st_size) > FILE_LIMIT:
        raise ValueError(f"{file} {_too_large(size, FILE_LIMIT)}; Inspect's .eval files are read piece by piece (inspect log convert)")
    return read_object(file)


def read_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of a file with one JSON object per line. Raises ValueError for the first that is none."""
    with file.open("rb") as stream:
        for number, line in enumerate(_bounded_lines(stream, file), 1):
            if not line.strip():
                continue
            try:
                content = parse_json(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(f"{file}, line {number} is not UTF-8 text ({error}); write the log again") from None
            except ValueError as error:
                raise ValueError(f"{file}, line {number} holds {error}; write the log again") from None
            if not isinstance(content, dict):
                raise ValueError(f"{file}, line {number} holds {type(content).__name__}, not an object; write the log again")
            yield number, content


def _bounded_lines(stream: io.BufferedReader | BinaryIO, file: Path) -> Iterator[bytes]:
    while line := stream.readline(LINE_LIMIT + 1):
        if len(line) > LINE_LIMIT:
            raise ValueError(f"{file} has a line of more than {LINE_LIMIT / 2**20:,.0f} MiB; take it out")
        yield line


def _too_large(size: int, limit: int) -> str:
    return f"unpacks to {size / 2**20:,.0f} MiB, and at most {limit / 2**20:,.0f} are read"
