"""How a run ends when it cannot go on: one line for the user, whoever found the fault, and Ray's tracebacks in the log.

A full or read-only disk shows itself in this process, or in any of Ray's, which hand on text alone; it is one line in either case.
How to use: `with refusing(): ...` before anything begins; `with failing(run.root, run.logs): ...` around what does the work.
"""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgd_ray.process.console import last_line

logger = logging.getLogger(__name__)

STORAGE_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there or raise the quota",
    errno.EROFS: "make it writable",
    errno.EIO: "mend the disk or the mount",
}
GO_ON = "then the same command goes on from here"
_NUMBERED = re.compile(r"\[errno (?P<number>\d+)\](?:[^\n]*?: '(?P<path>/[^'\n]*)')?", re.IGNORECASE)  # as Python and Arrow write it


class RefusedError(Exception):
    """The run cannot work and nothing was begun; the message is one line for the user."""


class StageFailedError(Exception):
    """A stage could not finish; what it made is kept."""


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a ValueError of the body, or a file that cannot be read, into RefusedError."""
    try:
        yield
    except ValueError as error:
        raise RefusedError(str(error)) from error
    except OSError as error:
        if error.filename is None:  # no file of the user's, but a connection perhaps
            raise
        raise RefusedError(f"{error.filename}: {error.strerror}; mend that, or give another file") from error


@contextmanager
def failing(root: Path, logs: Path) -> Iterator[None]:
    """Say in one line what the body died of; what is neither ours nor Ray's to explain rises as it is."""
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    try:
        yield
    except (RayError, TrainingFailedError) as error:  # before ValueError and OSError: what Ray hands on from an actor is both
        logger.exception("a stage failed")
        line = storage_fault(error, root) or f"{last_line(error)}; the whole story is in {logs}"
        raise StageFailedError(line) from error
    except ValueError as error:
        raise StageFailedError(str(error)) from error
    except OSError as error:
        line = storage_fault(error, root) or f"{error.strerror or error}: {error.filename}; mend that, and {GO_ON}"
        raise StageFailedError(line) from error


def storage_fault(error: BaseException, root: Path) -> str | None:
    """One line on a disk that takes nothing more, with the path that was tried or else `root`, and the remedy; None for other errors."""
    for found in _NUMBERED.finditer(str(error)):
        number = int(found["number"])
        if number in STORAGE_REMEDIES:
            return f"{os.strerror(number)}: {found['path'] or root}; {STORAGE_REMEDIES[number]}, {GO_ON}"
    return None
