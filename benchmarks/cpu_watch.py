"""CPU seconds of a command and everything it starts, over time, and of all other processes of the machine.

Why: on a machine that others use too, tokens per second say more about them than about the contestant; tokens per CPU second do not,
as long as the contestant keeps its cores busy, and the others' share says how far either is to be trusted. Ray's daemons leave the
process tree, so what belongs to the command is told by a variable in its environment, which all of them inherit.
How to use: `with CpuWatch() as watch: subprocess.run(command, env={**os.environ, **watch.environment})`, then `watch.between(start, end)`.
"""

import os
import threading
import time
import uuid
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

VARIABLE = "CGD_BENCHMARK_RUN"
INTERVAL_S = 0.5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """CPU seconds within a span of time."""

    own_s: float
    others_s: float


class CpuWatch:
    """Samples /proc from a thread."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self.environment = {VARIABLE: self._mark}
        self._spent: dict[tuple[int, int], float] = {}
        """(pid, start) -> CPU seconds when last seen, of the command's own processes."""
        self._strangers: set[tuple[int, int]] = set()
        self._samples: list[tuple[float, float, float]] = []
        """(time, own CPU seconds, the machine's busy CPU seconds)."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "CpuWatch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, start: float, end: float) -> Usage:
        """What was used from one `time.time()` to another."""
        own, busy = (self._at(end, column) - self._at(start, column) for column in (1, 2))
        return Usage(own_s=own, others_s=max(0.0, busy - own))

    def _at(self, when: float, column: int) -> float:
        """A column's value at a time, between its samples."""
        index = min(max(1, bisect_left(self._samples, (when,))), len(self._samples) - 1)
        before, after = self._samples[index - 1], self._samples[index]
        share = (when - before[0]) / (after[0] - before[0])
        return before[column] + share * (after[column] - before[column])

    def _run(self) -> None:
        while True:
            self._sample()
            if self._stop.wait(INTERVAL_S):
                self._sample()
                return

    def _sample(self) -> None:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    self._look(int(entry.name))
                except OSError:  # it has ended
                    continue
        ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
        user, nice, system, _idle, _waiting, interrupts, soft_interrupts, _stolen = ticks
        busy = user + nice + system + interrupts + soft_interrupts
        self._samples.append((time.time(), sum(self._spent.values()), busy / TICKS_PER_S))

    def _look(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        process = (pid, int(fields[19]))
        if process in self._strangers:
            return
        if process not in self._spent and self._mark.encode() not in Path(f"/proc/{pid}/environ").read_bytes():
            age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / TICKS_PER_S
            if age_s > INTERVAL_S:  # a young one may be between fork and exec, where the environment is still its parent's
                self._strangers.add(process)
            return
        self._spent[process] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
