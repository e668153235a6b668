"""Ends a process at one of the calls by which things become durable, as a failing machine would."""

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CALLS = {
    "fsync": "os:fsync",
    "replace": "os:replace",
    "rename": "os:rename",
    "unlink": "os:unlink",
    "write": "os:write",  # the journals of what is in flight and of what was paid for
    "text": "pathlib:Path.write_text",
    "table": "pyarrow.parquet:ParquetWriter.write_table",
    "ids": "ray.data.checkpoint.checkpoint_writer:BatchBasedCheckpointWriter.write_pending_checkpoint",
    "part": "ray.data._internal.datasource.parquet_datasink:ParquetDatasink._write_parquet_files",
    "commit": "ray.data.checkpoint.checkpoint_writer:BatchBasedCheckpointWriter.commit_checkpoint",
}
"""Names of the calls and where they are; from `ids` on they are made by Ray's writers."""


def die_at(calls: Sequence[str], step: int, moment: str, certificate: Path | None = None) -> None:
    """Wrap the calls, so that the process ends at the given one of them; with a certificate, only the first process that comes to it."""
    count = 0

    def end() -> None:
        if certificate is not None:
            try:
                os.close(os.open(certificate, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        os._exit(9)

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            number = count
            if number == step and moment == "before":
                end()
            result = call(*arguments, **keywords)
            if number == step and moment == "after":
                end()
            return result

        return counting

    for name in calls:
        module, _, path = CALLS[name].partition(":")
        *owners, method = path.split(".")
        owner: Any = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, method, wrapped(getattr(owner, method)))
