"""Who may be in an engine, and who was when it died, so that a row that kills every engine is found and set aside.

Each actor appends to a journal of its own what enters and leaves its engine. Ray starts a dead actor again under the same id; the new one
finds what its former life held and adds a death to each of those rows. A row with deaths is let in with fewer others and, before it is
given up, alone, so that the last death can be no other row's doing: it takes several or all of the engine's places. Deaths outlive the
driver; journals of a killed driver's actors are not deaths, and neither is the loss of a node with its engines, so a journal names its
node. One `write` a line into the page cache survives the process, which is the fault meant here.
An engine that dies again and again before any of its role has made anything dies of no row: then the run is to end (`hopeless`).
How to use: in the driver `begin_anew(directory)`; in an actor `suspects = suspects_of_this_actor(directory, role)`, then
`with suspects.entered(record_id): ...` and, in its event loop, `async with places.taken(suspects.places(record_id, most)): ...`.
"""

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

logger = logging.getLogger(__name__)

MOST_DEATHS = 3  # of engines with a row inside, before the row is set aside
COMPANY_AFTER_ONE_DEATH = 8  # rows that may share an engine with a row that has seen one death
MOST_DEATHS_IN_A_ROW = 5
"""Of one actor's engine without anything made in between by those of its role: more than a few deadly rows at the beginning cause."""
SUSPECTS = "in_flight"
"""Directory, in a generation's state, of what its actors note; named so since the first version, whose runs go on."""
DEATHS = "deaths.txt"
"""File with a line for each death that a row was in."""
IN_A_ROW = ".deaths_in_a_row"
"""Suffix of a role's file of those deaths, a line each: the actor, and what the engine died of."""
FORGET_INTERVAL_S = 1.0
"""Between looks for deaths in a row that are to be forgotten: the file is on shared storage, where a look is a request."""
WORDLESS = "its process ended without a word, as when it is killed for its memory"


class NoSuspects:
    """Stands for Suspects where nobody notes what is in the engines: every row takes one place, none has seen a death."""

    def entered(self, record_id: str) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def deaths(self, record_id: str) -> int:
        """None."""
        return 0

    def progressed(self) -> None:
        """Nothing."""

    def last_words(self, reason: str) -> None:
        """Nothing."""

    def hopeless(self) -> str | None:
        """Never."""
        return None

    def places(self, record_id: str, capacity: int) -> int:
        """One."""
        return 1


class Suspects:
    """One actor's view of the deaths of all actors of a run.

    `is_alive` tells of a node whether it is still there. It is asked when the actor has died before; the former life may have been on
    another node.
    """

    def __init__(self, directory: Path, actor_id: str, node_id: str, is_alive: Callable[[str], bool], role: str = "engine") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._actor_id, self._in_a_row = actor_id, directory / f"{role}{IN_A_ROW}"
        self._forgot = -math.inf
        """When it was last looked for deaths in a row."""
        self._deaths_file = directory / DEATHS
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

    def progressed(self) -> None:
        """An engine has made something: deaths in a row are forgotten, with the first of an actor's answers and at intervals."""
        now = time.monotonic()
        if now - self._forgot >= FORGET_INTERVAL_S:
            self._forgot = now
            self._in_a_row.unlink(missing_ok=True)

    def last_words(self, reason: str) -> None:
        """Note what the engine dies of, just before its process ends."""
        os.write(self._journal, f"!{' '.join(reason.split())}\n".encode())

    def hopeless(self) -> str | None:
        """What this actor's engine died of the last time, once it has died so often that no row can be to blame; else None."""
        return _often_dead(self._in_a_row).get(self._actor_id)

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
        words = WORDLESS
        for move in moves:
            if move[0] == "!":
                words = move[1:]
            else:
                inside[move[1:]] += 1 if move[0] == "+" else -1
        held = [record_id for record_id, count in inside.items() if count > 0]
        if not is_alive(node_id):
            logger.warning("node %s was lost with an engine and %d rows in it", node_id, len(held))
            return
        logger.warning("an engine died with %d rows in it: %s", len(held), words)
        _append(self._deaths_file, "".join(f"{record_id}\n" for record_id in held))
        _append(self._in_a_row, f"{self._actor_id}\t{words}\n")


def begin_anew(directory: Path) -> None:
    """Forget the deaths in a row of a former driver's engines; where they had ended its run, also the rows', which were not to blame."""
    for file in directory.glob(f"*{IN_A_ROW}"):
        if _often_dead(file):
            (directory / DEATHS).unlink(missing_ok=True)
        file.unlink()


def _often_dead(file: Path) -> dict[str, str]:
    """What engines died of the last time, by actor, of those that have died too often in a row."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    deaths = [(actor_id, words) for actor_id, _, words in (line.partition("\t") for line in lines)]
    counts = Counter(actor_id for actor_id, _ in deaths)
    return {actor_id: words for actor_id, words in deaths if counts[actor_id] >= MOST_DEATHS_IN_A_ROW}


def _append(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, text.encode())
    os.fsync(descriptor)
    os.close(descriptor)


def suspects_of_this_actor(directory: Path | None, role: str) -> Suspects | NoSuspects:
    """That of this process; Ray starts a dead actor again under the same id, on the same node or on another one."""
    import ray

    if directory is None:
        return NoSuspects()
    if not ray.is_initialized():  # asking would start Ray
        return Suspects(directory, "no-actor", "no-node", is_alive=lambda node_id: True, role=role)
    context = ray.get_runtime_context()
    return Suspects(directory, context.get_actor_id() or "no-actor", context.get_node_id(), _is_alive, role)


def _is_alive(node_id: str) -> bool:
    """Whether Ray has not lost a node; it starts a lost node's actors elsewhere only when it has noticed."""
    import ray

    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())
