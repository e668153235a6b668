"""SIGTERM ends a stage in order where the stage can do so, and by an exception elsewhere."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from cgd_ray.process import stopping


def terminate_myself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)


def test_sigterm_sets_the_flag_inside_and_raises_outside_of_a_drain(tmp_path: Path) -> None:
    flag, before = tmp_path / "state" / "stop", signal.getsignal(signal.SIGTERM)
    with stopping.stopped_by_sigterm():
        with stopping.draining_on_sigterm(flag):
            os.kill(os.getpid(), signal.SIGTERM)
        assert flag.exists()
        with pytest.raises(stopping.StoppedError, match="the same command goes on"):
            terminate_myself()
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_sets_the_flags_of_two_stages_that_run_beside_each_other(tmp_path: Path) -> None:
    outer, inner = tmp_path / "training" / "stop", tmp_path / "generation" / "stop"
    with stopping.stopped_by_sigterm(), stopping.draining_on_sigterm(outer):
        with stopping.draining_on_sigterm(inner):
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner.exists()
        assert outer.exists()
        inner.unlink()
        os.kill(os.getpid(), signal.SIGTERM)
        assert not inner.exists(), "the inner stage has ended"


def test_a_stage_that_begins_after_sigterm_beside_another_one_is_asked_to_end_at_once(tmp_path: Path) -> None:
    outer, inner = tmp_path / "training" / "stop", tmp_path / "generation" / "stop"
    with stopping.draining_on_sigterm(outer):
        with stopping.draining_on_sigterm(inner):
            assert not inner.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        with stopping.draining_on_sigterm(inner):
            assert inner.exists()


def test_sigterm_while_an_engine_ends_the_run_limits_the_time_and_keeps_the_reason(tmp_path: Path) -> None:
    flag = tmp_path / "stop"
    with stopping.draining_on_sigterm(flag):
        flag.write_text("no money left")
        assert not is_limited()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert flag.read_text() == ""
        assert is_limited()
    assert flag.read_text() == "no money left"


def is_limited() -> bool:
    """Whether this process is to end by itself."""
    return any(isinstance(thread, threading.Timer) and not thread.finished.is_set() for thread in threading.enumerate())
