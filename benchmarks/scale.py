"""Generation at sizes that no machine here has, by simulation: where the driver becomes the bottleneck, and what lost engines cost.

`python -m benchmarks.scale [--json PATH]`: replicas with places, calls of rows, answers of lognormal times, engines that are lost and start
again; one driver that needs a time for a call and one for a row, as pipeline_overhead.py measures them (docs/scale.md).
Nothing of Ray runs; what is simulated is the flow that dataflow.py sets up: so many rows for each place, no barrier.
"""

import argparse
import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import write_figures
from cgd_ray.generation.pools.elasticity import CALLS_PER_PLACE, rows_per_place
from cgd_ray.planning.times.speeds import DRIVER_S_PER_CALL, DRIVER_S_PER_ROW

PLACES = 256
MEDIAN_S, SIGMA = 12.0, 1.0
"""A row's turns on a large teacher: 16 s on average."""
START_S = 300.0
"""Of an engine that takes a lost one's place."""
LOST_PER_ENGINE_HOUR = 0.01


@dataclass(kw_only=True)
class Replica:
    """One engine: when each of its places is free next, and what it holds."""

    free: list[float]
    calls: int = 0
    lost_at: float = math.inf


@dataclass(kw_only=True)
class Outcome:
    """What a simulation came to."""

    makespan: float = 0.0
    all_handed_out: float = 0.0
    """When the last row left the driver; what follows is the tail of the slowest."""
    repeated_rows: int = 0
    driver_busy: float = 0.0
    answers: list[tuple[float, float]] = field(default_factory=list)
    """Of each row, when it took its place and for how long."""

    def busy(self, num_places: int) -> float:
        """Share of the places that answer while there are rows to hand out and the engines are up."""
        starts, seconds = (np.array(column) for column in zip(*self.answers, strict=True))
        ends = np.minimum(starts + seconds, self.all_handed_out)
        within = np.maximum(0.0, ends - starts)
        return float(within.sum() / (num_places * (self.all_handed_out - START_S)))


def simulate(num_rows: int, num_replicas: int, batch_size: int, per_place: float, loses: bool) -> dict[str, Any]:
    """Rows a second, share of places that answer, share of the time that the driver works; `per_place` rows are with an engine for each."""
    rng = np.random.default_rng(0)
    most_calls = math.ceil(per_place * PLACES / batch_size) + 1
    replicas = [Replica(free=[START_S] * PLACES) for _ in range(num_replicas)]
    if loses:
        for replica in replicas:
            replica.lost_at = START_S + float(rng.exponential(3600 / LOST_PER_ENGINE_HOUR))
    outcome, waiting, driver_free = Outcome(), num_rows, 0.0
    events: list[tuple[float, int, int]] = []
    order = deque(number for _ in range(most_calls) for number in range(num_replicas))  # the driver hands out round-robin at first
    while order or events:
        if order:
            ready, number = 0.0, order.popleft()
        else:
            ready, number, finished = heapq.heappop(events)
            outcome.makespan = max(outcome.makespan, ready)
            driver_free = max(driver_free, ready) + DRIVER_S_PER_ROW * finished
            outcome.driver_busy += DRIVER_S_PER_ROW * finished
        rows = min(batch_size, waiting)
        if not rows:
            continue
        waiting -= rows
        driver_free = max(driver_free, ready) + DRIVER_S_PER_CALL
        outcome.driver_busy += DRIVER_S_PER_CALL
        outcome.all_handed_out = driver_free
        heapq.heappush(events, (_answered(replicas[number], driver_free, rows, rng, outcome), number, rows))
    return {
        "rows": num_rows,
        "replicas": num_replicas,
        "batch_size": batch_size,
        "rows_per_place": per_place,
        "loses": loses,
        "rows_per_s": num_rows / (outcome.makespan - START_S),
        "busy": outcome.busy(num_replicas * PLACES),
        "driver_busy": outcome.driver_busy / outcome.makespan,
        "repeated_rows": outcome.repeated_rows,
        "hours": outcome.makespan / 3600,
    }


def _answered(replica: Replica, arrives: float, rows: int, rng: np.random.Generator, outcome: Outcome) -> float:
    """When the last row of a call is answered: each takes the place that is free first; a lost engine answers all it held again."""
    last = arrives
    for seconds in rng.lognormal(math.log(MEDIAN_S), SIGMA, rows).tolist():
        start = max(arrives, replica.free[0])
        if start + seconds > replica.lost_at:
            _lose(replica, rng, outcome)
            start = max(start, replica.free[0])
        heapq.heapreplace(replica.free, start + seconds)
        outcome.answers.append((start, seconds))
        last = max(last, start + seconds)
    return last


def _lose(replica: Replica, rng: np.random.Generator, outcome: Outcome) -> None:
    """The engine is gone with the row of each place, which the one that starts in its stead answers from the beginning."""
    back = replica.lost_at + START_S
    outcome.repeated_rows += PLACES
    replica.free = [back] * PLACES
    replica.lost_at = back + float(rng.exponential(3600 / LOST_PER_ENGINE_HOUR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--replicas", type=int, nargs="+", default=[20, 200, 2000])
    parser.add_argument("--rows-per-replica", type=int, default=5_000)
    parsed = parser.parse_args()
    found = [
        simulate(parsed.rows_per_replica * replicas, replicas, batch_size, per_place, loses)
        for replicas in parsed.replicas
        for batch_size in (16, 128, 512)
        for per_place, loses in ((CALLS_PER_PLACE, False), (rows_per_place(batch_size), False), (rows_per_place(batch_size), True))
    ]
    write_figures({"simulated": found}, parsed.json)


if __name__ == "__main__":
    main()
