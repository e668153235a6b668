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
    with written_probe(root) as probe:
        blind = sorted(host for host, sees in on_every_node(_answer, probe) if not sees)
    if blind:
        raise ValueError(
            f"run_dir {root} is another directory on {', '.join(blind)} than on {socket.gethostname()}, where the driver is; give one on "
            "storage that all nodes mount at the same path (working_dir of a run_dir that is a URL)"
        )


@contextmanager
def written_probe(root: Path) -> Iterator[Path]:
    """Yield a file of the driver's that nodes can look for; it is gone afterwards."""
    probe = root / f".probe-{secrets.token_hex(8)}"
    probe.write_text(probe.name)
    try:
        yield probe
    finally:
        probe.unlink()


def sees(probe: Path) -> bool:
    """Whether the driver's file is there, on the node where this is called."""
    try:
        return probe.read_text() == probe.name
    except OSError:
        return False


def _answer(probe: Path) -> tuple[str, bool]:
    return socket.gethostname(), sees(probe)
