"""Which rows were in an engine when it died, so that a row that kills every engine is found and set aside.

Each actor appends to a journal of its own what enters and leaves its engine. Ray starts a dead actor again under the same id; the new one
finds what its former life held and adds a death to each of those rows. A row with deaths is let in with fewer others and, before it is
given up, alone, so that the last death can be no other row's doing. Deaths outlive the driver; journals of a killed driver's actors are
not deaths, and neither is the loss of a node with its engines, so a journal names its node. One `write` a line into the page cache
survives the process, which is the fault meant here.
How to use: `flight = of_this_actor(directory); with flight.entered(record_id): ...`.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

logger = logging.getLogger(__name__)

MOST_DEATHS = 3  # of engines with a row inside, before the row is set aside
COMPANY_AFTER_ONE_DEATH = 8  # rows that may share an engine with a row that has seen one death


class NothingNoted:
    """Stands for InFlight where nobody notes what is in the engines: every row takes one place, none has seen a death."""

    def entered(self, record_id: str) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def deaths(self, record_id: str) -> int:
        """None."""
        return 0

    def places(self, record_id: str, capacity: int) -> int:
        """One."""
        return 1


class InFlight:
    """One actor's view of the deaths of all actors of a run.

    `is_alive` tells of a node whether it is still there. It is asked when the actor has died before; the former life may have been on
    another node.
    """

    def __init__(self, directory: Path, actor_id: str, node_id: str, is_alive: Callable[[str], bool]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._deaths_file = directory / "deaths.txt"
        self._read_bytes = 0
        self._deaths: Counter[str] = Counter()
        journal = directory / f"{actor_id}.txt"
        self._bury(journal, is_alive)
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.write(self._journal, f"{node_id}\n".encode())

    @contextmanager
    def entered(self, record_id: str) -> Iterator[None]:
        """Mark a row as being in the engine."""
        os.write(self._journal, f"+{record_id}\n".encode())
        try:
            yield
        finally:
            os.write(self._journal, f"-{record_id}\n".encode())

    def deaths(self, record_id: str) -> int:
        """How many engines died with this row inside, whichever actor's they were."""
        if self._deaths_file.exists() and self._deaths_file.stat().st_size > self._read_bytes:
            content = self._deaths_file.read_bytes()
            self._deaths = Counter(content.decode().split())
            self._read_bytes = len(content)
        return self._deaths[record_id]

    def places(self, record_id: str, capacity: int) -> int:
        """How many places of its engine a row takes: one, or so many that few others or none are with it."""
        deaths = self.deaths(record_id)
        if deaths == 0:
            return 1
        return capacity if deaths >= MOST_DEATHS - 1 else -(-capacity // COMPANY_AFTER_ONE_DEATH)

    def _bury(self, journal: Path, is_alive: Callable[[str], bool]) -> None:
        """Add a death to each row that the former life of this actor held, unless its node was lost, which is no row's doing."""
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
        if not lines:
            return
        node_id, *moves = lines
        inside: Counter[str] = Counter()
        for move in moves:
            inside[move[1:]] += 1 if move[0] == "+" else -1
        held = [record_id for record_id, count in inside.items() if count > 0]
        if not is_alive(node_id):
            logger.warning("node %s was lost with an engine and %d rows in it", node_id, len(held))
            return
        logger.warning("an engine died with %d rows in it", len(held))
        descriptor = os.open(self._deaths_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, "".join(f"{record_id}\n" for record_id in held).encode())
        os.fsync(descriptor)
        os.close(descriptor)


def of_this_actor(directory: Path | None) -> InFlight | NothingNoted:
    """That of this process; Ray starts a dead actor again under the same id, on the same node or on another one."""
    import ray

    if directory is None:
        return NothingNoted()
    if not ray.is_initialized():  # asking would start Ray
        return InFlight(directory, "no-actor", "no-node", is_alive=lambda node_id: True)
    context = ray.get_runtime_context()
    return InFlight(directory, context.get_actor_id() or "no-actor", context.get_node_id(), _is_alive)


def _is_alive(node_id: str) -> bool:
    """Whether Ray has not lost a node; it starts a lost node's actors elsewhere only when it has noticed."""
    import ray

    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())
