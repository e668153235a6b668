"""Counts of a running generation: stages add to one tiny actor, the driver reads it, shows it and keeps what the engines have cost.

A count is for the eye: a row that is retried after a fault counts twice; the manifest's figures come from the written records. The same
counts go out as Ray metrics (Prometheus): cgd_turns, cgd_tokens, cgd_failed_rows, cgd_engine_seconds, cgd_cost; and how busy each of
vLLM's engines is: cgd_requests_running, cgd_requests_waiting, cgd_kv_cache_use, cgd_preemptions.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cgd_ray.data.reasons import MOST_KINDS, ReasonCounts, kind_of
from cgd_ray.data.rundir import read_json, write_json
from cgd_ray.engines.engine import Generation, Load

ProgressFn = Callable[[dict[str, int]], None]
REPORT_INTERVAL_S = 0.5
SPEED_WINDOW_S = 10.0
LEDGER_INTERVAL_S = 5.0
COUNTS = {"attempt": "attempts", "critique": "critiques", "refinement": "refinements", "direct": "direct answers"}
"""Turn -> the name under which its finished rows are counted."""
FAILED_BECAUSE = "failed: "
"""Prefix of the counts of failed rows by kind of reason."""
ROWS = "_rows"
"""Suffix of the counts of rows that have left a role's stage."""
REPETITIVE = "repetitive"
"""Count of generations that were ended since they repeated themselves."""
ROWS_MADE, TOKENS_MADE = "_rows_made", "_tokens_made"
"""Suffixes of the counts of a role's rows and tokens in this process's time, whatever a former run has made."""
UNFINISHED = "unfinished_tokens"
"""Count of the tokens of answers that are being written, by the engines' last look."""
UNUSABLE = "unusable"
"""Count of rows that get no further turns, since what they have was cut or is empty and can never be trained on."""
ENGINE_MS = "_engine_ms"
"""Suffix of the counts of how long a role's engines have existed."""


MOST_OF_A_KIND = 120
"""Characters of a kind of reason."""


class Tally:
    """The actor's state."""

    def __init__(self, start: Mapping[str, int], most_rows: int = 0) -> None:
        self._counts, self._most_rows = Counter(start), most_rows
        self._rows: dict[str, Mapping[str, Any]] = {}

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the counts."""
        self._counts.update(counts)

    def read(self) -> dict[str, int]:
        """The counts so far."""
        return dict(self._counts)

    def keep(self, row: Mapping[str, Any]) -> None:
        """Keep a finished row, each once, as long as there is room."""
        if len(self._rows) < self._most_rows:
            self._rows.setdefault(row["record_id"], row)

    def num_kept(self) -> int:
        """How many rows were kept so far."""
        return len(self._rows)

    def kept(self) -> list[Mapping[str, Any]]:
        """The rows that were kept."""
        return list(self._rows.values())


@dataclass(frozen=True)
class CountSender:
    """Sends a stage's counts, and rows to keep, to the actor, without waiting; crosses processes."""

    tally: Any
    """Handle of the Tally actor."""

    def __call__(self, counts: Mapping[str, int]) -> None:
        self.tally.add.remote(dict(counts))

    def keep(self, row: Mapping[str, Any]) -> None:
        """Send a finished row."""
        self.tally.keep.remote(dict(row))

    def num_kept(self) -> int:
        """How many rows the actor has kept; this and the next one wait for its answer."""
        return int(ray.get(self.tally.num_kept.remote()))

    def kept(self) -> list[Mapping[str, Any]]:
        """The rows that it has kept."""
        return list(ray.get(self.tally.kept.remote()))


class Meter:
    """Collects one stage actor's counts and reports them now and then."""

    def __init__(self, report: Callable[[Mapping[str, int]], None] | None, role: str) -> None:
        self._report = report
        self._role = role
        self._counts: Counter[str] = Counter()
        self._lock = threading.RLock()  # the engine's thread tells its load, the actor's loop all else
        self._unfinished = 0
        self._kinds: set[str] = set()
        self._reported = time.monotonic()
        self._metrics = None if report is None else _Metrics(role)

    def tokens(self, generation: Generation) -> None:
        """Count the tokens of one generation; a turn may take several."""
        made = {"tokens": generation.num_tokens, self._role + TOKENS_MADE: generation.num_tokens}
        self._add({**made, REPETITIVE: int(generation.finish_reason == "repetition")})
        if self._metrics is not None:
            self._metrics.tokens(generation)
        self._flush_now_and_then()

    def turn(self, name: str) -> None:
        """Count a finished turn."""
        self._add({name: 1})
        if self._metrics is not None:
            self._metrics.turn(name)

    def row(self, is_unusable: bool) -> None:
        """Count a row that leaves the stage, whatever became of it; `is_unusable` where it got less than all turns and did not fail."""
        self._add({self._role + ROWS: 1, self._role + ROWS_MADE: 1, UNUSABLE: int(is_unusable)})

    def fail(self, reason: str) -> None:
        """Count a row that cannot be processed, together with those that failed alike."""
        kind = self._kind(reason)
        self._add({"failed": 1, FAILED_BECAUSE + kind: 1})
        if self._metrics is not None:
            self._metrics.failed(kind)
        self._flush_now_and_then()

    def load(self, load: Load) -> None:
        """Tell how busy the engine is, and what it has written of answers that no turn tells of yet; from whatever thread."""
        if self._metrics is not None:
            self._metrics.load(load)
        self._add({UNFINISHED: load.unfinished_tokens - self._unfinished})
        self._unfinished = load.unfinished_tokens
        self._flush_now_and_then()

    def flush(self) -> None:
        """Report what has been counted since the last report."""
        with self._lock:
            now = time.monotonic()
            self._counts[self._role + ENGINE_MS] += round(1000 * (now - self._reported))
            if self._metrics is not None:
                self._metrics.existed(now - self._reported)
            self._reported = now
            if self._report is not None:
                self._report(self._counts)
            self._counts = Counter()

    def _add(self, counts: Mapping[str, int]) -> None:
        with self._lock:
            self._counts.update(counts)

    def _kind(self, reason: str) -> str:
        """The reason's kind, cut; so many of them at most, since each is a time series in Prometheus and an endpoint's words may vary."""
        kind = kind_of(reason)[:MOST_OF_A_KIND]
        if kind not in self._kinds and len(self._kinds) == MOST_KINDS:
            return "other reasons"
        self._kinds.add(kind)
        return kind

    def _flush_now_and_then(self) -> None:
        if time.monotonic() - self._reported > REPORT_INTERVAL_S:
            self.flush()


class _Metrics:
    """What Prometheus scrapes from the actor's node."""

    def __init__(self, role: str) -> None:
        from ray.util.metrics import Counter as RayCounter
        from ray.util.metrics import Gauge

        self._role = role
        self._turns = RayCounter("cgd_turns", "Finished generations", tag_keys=("role", "turn"))
        self._tokens = RayCounter("cgd_tokens", "Tokens in, found in the prefix cache, and out", tag_keys=("role", "kind"))
        self._failed_rows = RayCounter("cgd_failed_rows", "Rows that cannot be processed", tag_keys=("role", "reason"))
        self._seconds = RayCounter("cgd_engine_seconds", "Seconds that engines have existed", tag_keys=("role",))
        self._cost = RayCounter("cgd_cost", "What an endpoint was paid, in teacher.api.currency", tag_keys=("role",))
        self._running = Gauge("cgd_requests_running", "Requests that an engine works on", tag_keys=("role",))
        self._waiting = Gauge("cgd_requests_waiting", "Requests that wait for room in an engine", tag_keys=("role",))
        self._kv_cache_use = Gauge("cgd_kv_cache_use", "Share of an engine's memory for keys and values in use", tag_keys=("role",))
        self._preemptions = RayCounter("cgd_preemptions", "Requests that lost their room to others", tag_keys=("role",))
        self._preemptions_told = 0

    def load(self, load: Load) -> None:
        tags = {"role": self._role}
        self._running.set(load.running, tags)
        self._waiting.set(load.waiting, tags)
        self._kv_cache_use.set(load.kv_cache_use, tags)
        if new := load.preemptions - self._preemptions_told:
            self._preemptions.inc(new, tags)
            self._preemptions_told = load.preemptions

    def turn(self, name: str) -> None:
        self._turns.inc(1, {"role": self._role, "turn": name})

    def tokens(self, generation: Generation) -> None:
        for kind, count in (
            ("prompt", generation.prompt_tokens),
            ("cached", generation.cached_tokens),
            ("generated", generation.num_tokens),
        ):
            if count:
                self._tokens.inc(count, {"role": self._role, "kind": kind})
        if generation.cost:
            self._cost.inc(generation.cost, {"role": self._role})

    def existed(self, seconds: float) -> None:
        self._seconds.inc(seconds, {"role": self._role})

    def failed(self, kind: str) -> None:
        reason = kind.encode("ascii", "replace").decode()  # Ray takes no other tags
        self._failed_rows.inc(1, {"role": self._role, "reason": reason})


def failed_before(errors: ReasonCounts) -> dict[str, int]:
    """The counts of failed rows that a former run has written, in the words of a Meter, which knows no stage."""
    kinds: Counter[str] = Counter()
    for reason, count in errors.most_common().items():
        kinds[FAILED_BECAUSE + kind_of(reason.partition(": ")[2])[:MOST_OF_A_KIND]] += count
    return {"failed": errors.total(), **kinds}


@contextmanager
def watched(start: Mapping[str, int], on_progress: ProgressFn | None, ledger: Path, most_rows: int = 0) -> Iterator[CountSender]:
    """A report for the stages; meanwhile `on_progress` gets the counts from a thread of this process, and once more at the end.

    `ledger` keeps the engines' seconds over all runs of the same directory. The tally keeps at most `most_rows` of the rows it is sent.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # so that no other node's loss is its own
    tally = ray.remote(Tally).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote(start, most_rows)
    watch = _Watch(tally, on_progress, ledger)
    finished = threading.Event()

    def poll() -> None:
        while not finished.wait(REPORT_INTERVAL_S):
            with suppress(ray.exceptions.RayError):  # the tally's node may be gone; the actor then starts again elsewhere
                watch.look()

    thread = threading.Thread(target=poll, name="generation-progress", daemon=True)
    thread.start()
    try:
        yield CountSender(tally)
    finally:
        finished.set()
        thread.join()
        with suppress(ray.exceptions.RayError):  # what went wrong is on its way already
            watch.look(last=True)
            ray.kill(tally)


class _Watch:
    """Reads the tally, tells the counts with the speed of the last seconds, and keeps the ledger."""

    def __init__(self, tally: Any, on_progress: ProgressFn | None, ledger: Path) -> None:
        self._tally, self._on_progress, self._ledger = tally, on_progress, ledger
        self._before = Counter(read_json(ledger) or {})
        self._kept_at = time.monotonic()
        self._history: deque[tuple[float, int]] = deque()

    def look(self, last: bool = False) -> None:
        counts: dict[str, int] = ray.get(self._tally.read.remote())
        now = time.monotonic()
        if last or now - self._kept_at > LEDGER_INTERVAL_S:
            self._kept_at = now
            spent = Counter({name: count for name, count in counts.items() if name.endswith(ENGINE_MS)})
            with suppress(OSError):  # a disk that takes nothing ends the run by the records' writers; until then rows are counted
                write_json(self._ledger, dict(self._before + spent))
        if self._on_progress is not None:
            self._on_progress({**counts, "tokens_per_s": self._speed(now, counts["tokens"] + counts.get(UNFINISHED, 0))})

    def _speed(self, now: float, tokens: int) -> int:
        """Tokens per second. An answer that ends is counted twice until its engine is looked at again, a second later."""
        self._history.append((now, tokens))
        while now - self._history[0][0] > SPEED_WINDOW_S:
            self._history.popleft()
        then, before = self._history[0]
        return max(0, round((tokens - before) / (now - then))) if now > then else 0
