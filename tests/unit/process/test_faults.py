"""What the user reads when a run cannot go on: one line with the remedy, whoever found the fault."""

import errno
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError
from ray.train import TrainingFailedError

from cgd_ray.process.faults import RefusedError, StageFailedError, failing, refusing

VALIDATION = """1 validation error for ModelConfig
  Value error, User-specified max_model_len (4096) is greater
  than the derived one (2048). [type=value_error, input_value=ArgsKwargs((), {'model': ...}), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.13/v/value_error
"""
ROOT, LOGS = Path("/runs/mine"), Path("/runs/mine/logs")
FULL = "No space left on device: /runs/mine; make room there, then the same command goes on from here"
WRITING = OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")  # as Arrow puts it
NAMED = OSError(errno.ENOSPC, "No space left on device", "/runs/mine/records/0.parquet")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FULL),
        (NAMED, FULL.replace("mine;", "mine/records/0.parquet;")),
        (
            RayTaskError("Write", f"Traceback ...\n  more\nOSError: {NAMED}\n", NAMED).as_instanceof_cause(),
            FULL.replace("mine;", "mine/records/0.parquet;"),
        ),
        (RayTaskError("Write", f"Traceback ...\nOSError: {WRITING}\n", WRITING).as_instanceof_cause(), FULL),
        (TrainingFailedError(f"Training failed due to worker errors:\n[Rank 0]\nOSError: {WRITING}\n"), FULL),
        (
            OSError(errno.EROFS, "Read-only file system", "/data/x"),
            "Read-only file system: /data/x; make it writable, then the same command goes on from here",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/x"),
            "Permission denied: /data/x; mend that, and then the same command goes on from here",
        ),
        (TrainingFailedError("Training failed:\n  much\nKeyError: 'x'\n"), f"KeyError: 'x'; the whole story is in {LOGS}"),
        (
            TrainingFailedError(f"Traceback ...\n  more\npydantic_core._pydantic_core.ValidationError: {VALIDATION}"),
            f"Value error, User-specified max_model_len (4096) is greater than the derived one (2048).; the whole story is in {LOGS}",
        ),
        (ValueError("5 of 10 rows failed"), "5 of 10 rows failed"),
    ],
)
def test_every_fault_is_one_line(error: Exception, line: str) -> None:
    with pytest.raises(StageFailedError) as failed, failing(ROOT, LOGS):
        raise error
    assert str(failed.value) == line


def test_what_nobody_can_explain_rises_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), failing(ROOT, LOGS):
        raise ZeroDivisionError


def test_a_file_that_cannot_be_read_before_anything_begins_is_a_refusal() -> None:
    with pytest.raises(RefusedError, match=r"^/words.yaml: Permission denied; mend that, or give another file$"), refusing():
        raise PermissionError(errno.EACCES, "Permission denied", "/words.yaml")
    with pytest.raises(ConnectionError), refusing():  # no file: whoever dies of it knows better
        raise ConnectionError("no Ray there")
