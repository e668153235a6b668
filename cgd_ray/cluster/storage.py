"""Every node that may write a run's files sees the directory of the driver, which is found out before anything starts.

A path that exists on each node for itself is the silent kind of wrong: parts are written that nobody ever reads.
How to use, with Ray initialised: `check_shared(run.root)`.
"""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgd_ray.cluster.connection import on_every_node


def check_shared(root: Path) -> None:
    """Raise ValueError that names the nodes on which `root` is another directory than here."""
    with _written(root / f".probe-{secrets.token_hex(8)}") as probe:
        blind = sorted(host for host, sees in on_every_node(_sees, probe) if not sees)
    if blind:
        raise ValueError(
            f"run_dir {root} is another directory on {', '.join(blind)} than on {socket.gethostname()}, where the driver is; give one on "
            "storage that all nodes mount at the same path"
        )


@contextmanager
def _written(probe: Path) -> Iterator[Path]:
    probe.write_text(probe.name)
    try:
        yield probe
    finally:
        probe.unlink()


def _sees(probe: Path) -> tuple[str, bool]:
    """The node where this is called, and whether the driver's file is there."""
    try:
        return socket.gethostname(), probe.read_text() == probe.name
    except OSError:
        return socket.gethostname(), False
