"""Whether a file or a directory has changed, for the price of opening it.

Opened and not just looked up: NFS trusts what it remembers of a path for up to a minute, but asks again when it is opened.
How to use: `before = stamp(path)`; where `stamp(path) != before`, read it again.
"""

import os
from pathlib import Path

Stamp = tuple[int, int, int]
"""Inode, time of the last change in ns, size in bytes."""


def stamp(path: Path) -> Stamp | None:
    """Of a file's content, or of the names in a directory; None where there is nothing. Taken before the content is read, it misses no
    change.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return status.st_ino, status.st_mtime_ns, status.st_size
