"""A run that ends waits for no engine that is only starting, and starts none."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cgd_ray.config import RoleConfig
from cgd_ray.engines.engine import Engine, RunEndedError
from cgd_ray.generation.starting import EXIT_GIVEN_UP, start_engine
from cgd_ray.generation.suspects import NoSuspects
from tests.fakes import FakeEngine, FakeEngines

ROLE = RoleConfig(model="nobody/nothing")
STARTS_FOR_EVER = """
import sys, time
from pathlib import Path
from cgd_ray.config import RoleConfig
from cgd_ray.generation.starting import start_engine
from cgd_ray.generation.suspects import NoSuspects

def start(role):
    Path(sys.argv[1]).touch()
    time.sleep(3600)

start_engine("student", RoleConfig(model="nobody/nothing"), start, NoSuspects(), print, Path(sys.argv[2]))
"""


def test_an_engine_that_is_starting_when_the_run_is_asked_to_end_is_given_up(tmp_path: Path) -> None:
    begun, flag = tmp_path / "begun", tmp_path / "stop"
    process = subprocess.Popen([sys.executable, "-c", STARTS_FOR_EVER, str(begun), str(flag)])
    while not begun.exists() and process.poll() is None:
        time.sleep(0.05)
    flag.touch()
    assert process.wait(60) == EXIT_GIVEN_UP


def test_no_engine_is_started_once_the_run_is_asked_to_end(tmp_path: Path) -> None:
    flag = tmp_path / "stop"
    flag.touch()

    def start(role: RoleConfig) -> Engine:
        raise AssertionError("it is too late for that")

    engine = start_engine("student", ROLE, start, NoSuspects(), print, flag)
    with pytest.raises(RunEndedError, match="student: the run was ended"):
        engine.generate([], ROLE.sampling, 0).send(None)  # type: ignore[attr-defined]  # a coroutine


def test_an_engine_that_is_up_is_nobodys_to_give_up(tmp_path: Path) -> None:
    flag = tmp_path / "stop"
    assert isinstance(start_engine("student", ROLE, FakeEngines(), NoSuspects(), print, flag), FakeEngine)
    flag.touch()
    time.sleep(1.0)  # this process would be gone
