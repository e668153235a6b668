"""Starts the engine of a stage's actor, unless engines like it have died again and again: then one stands in for it that ends the run.

How to use, in the actor: `engine = start_engine("student", spec.role, spec.engine_factory, suspects, meter.load, spec.stop_flag)`.
"""

import time
from pathlib import Path

from cgd_ray.config import RoleConfig
from cgd_ray.engines.engine import EndedEngine, Engine, EngineFactory, Observable, OnLoad, RunEndedError
from cgd_ray.engines.starting import started
from cgd_ray.generation.draining import end_run
from cgd_ray.generation.suspects import MOST_DEATHS_IN_A_ROW, NoSuspects, Suspects


def start_engine(
    name: str, role: RoleConfig, factory: EngineFactory, suspects: Suspects | NoSuspects, on_load: OnLoad, stop_flag: Path | None
) -> Engine:
    """The engine of the role with this name, observed where it can be. Raises what engines.starting.started() does."""
    if (words := suspects.hopeless()) is not None:
        error = RunEndedError(
            f"{name}: the engine of {role.model} died {MOST_DEATHS_IN_A_ROW} times before any had made anything, the last time: {words}; "
            "mend that and run the same command again, finished rows are kept"
        )
        end_run(stop_flag, error)
        return EndedEngine(str(error))
    engine = started(factory, role, lambda seconds: _pause(seconds, stop_flag))
    if isinstance(engine, Observable):
        engine.observe(on_load, suspects.last_words)
    return engine


def _pause(seconds: float, stop_flag: Path | None) -> None:
    """Wait, at most until the run is ended."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not (stop_flag is not None and stop_flag.exists()):
        time.sleep(min(left, 1.0))
