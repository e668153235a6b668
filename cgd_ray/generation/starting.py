"""Starts the engine of a stage's actor, unless engines like it have died again and again: then one stands in for it that ends the run.

A run that is asked to end waits for no engine that is not up yet: its start may take longer than there is time, and there is no row in it.
The start cannot be called off, so its process ends; Ray starts the actor again, and that one starts no engine.
How to use, in the actor: `engine = start_engine("student", spec.role, spec.engine_factory, suspects, meter.load, spec.stop_flag)`.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgd_ray.config import RoleConfig
from cgd_ray.engines.engine import EndedEngine, Engine, EngineFactory, Observable, OnLoad, RunEndedError
from cgd_ray.engines.starting import started
from cgd_ray.generation.draining import end_run
from cgd_ray.generation.suspects import MOST_DEATHS_IN_A_ROW, NoSuspects, Suspects

LOOK_INTERVAL_S = 0.5
EXIT_GIVEN_UP = 75
"""Of an actor's process whose engine was not up when the run was asked to end."""


def start_engine(
    name: str, role: RoleConfig, factory: EngineFactory, suspects: Suspects | NoSuspects, on_load: OnLoad, stop_flag: Path | None
) -> Engine:
    """The engine of the role with this name, observed where it can be. Raises what engines.starting.started() does.

    Ends the process where the run is asked to end meanwhile.
    """
    if stop_flag is not None and stop_flag.exists():
        return EndedEngine(f"{name}: the run was ended before its engine was started")
    if (words := suspects.hopeless()) is not None:
        error = RunEndedError(
            f"{name}: the engine of {role.model} died {MOST_DEATHS_IN_A_ROW} times before any had made anything, the last time: {words}; "
            "mend that and run the same command again, finished rows are kept"
        )
        end_run(stop_flag, error)
        return EndedEngine(str(error))
    with _given_up_at(stop_flag):
        engine = started(factory, role, lambda seconds: _pause(seconds, stop_flag))
    if isinstance(engine, Observable):
        engine.observe(on_load, suspects.last_words)
    return engine


@contextmanager
def _given_up_at(stop_flag: Path | None) -> Iterator[None]:
    """End this process as soon as the flag is there while the body runs."""
    if stop_flag is None:
        yield
        return
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(LOOK_INTERVAL_S):
            if stop_flag.exists():
                os._exit(EXIT_GIVEN_UP)

    threading.Thread(target=watch, daemon=True, name="start-of-engine").start()
    try:
        yield
    finally:
        is_over.set()


def _pause(seconds: float, stop_flag: Path | None) -> None:
    """Wait, at most until the run is ended."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not (stop_flag is not None and stop_flag.exists()):
        time.sleep(min(left, 1.0))
