"""SIGTERM or Ctrl-C ends a stage in order where the stage can do so, and by an exception elsewhere."""

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
    with stopping.stopped_by_signals():
        with stopping.draining_on_signals(flag):
            os.kill(os.getpid(), signal.SIGTERM)
        assert flag.exists()
        with pytest.raises(stopping.StoppedError, match="the same command goes on"):
            terminate_myself()
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_sets_the_flags_of_two_stages_that_run_beside_each_other(tmp_path: Path) -> None:
    outer, inner = tmp_path / "training" / "stop", tmp_path / "generation" / "stop"
    with stopping.stopped_by_signals(), stopping.draining_on_signals(outer):
        with stopping.draining_on_signals(inner):
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner.exists()
        assert outer.exists()
        inner.unlink()
        os.kill(os.getpid(), signal.SIGTERM)
        assert not inner.exists(), "the inner stage has ended"


def test_a_stage_that_begins_after_sigterm_beside_another_one_is_asked_to_end_at_once(tmp_path: Path) -> None:
    outer, inner = tmp_path / "training" / "stop", tmp_path / "generation" / "stop"
    with stopping.draining_on_signals(outer):
        with stopping.draining_on_signals(inner):
            assert not inner.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        with stopping.draining_on_signals(inner):
            assert inner.exists()


def test_sigterm_while_an_engine_ends_the_run_limits_the_time_and_keeps_the_reason(tmp_path: Path) -> None:
    flag = tmp_path / "stop"
    with stopping.draining_on_signals(flag):
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


def interrupt_myself() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)


def test_ctrl_c_drains_first_and_says_so_and_a_second_one_waits_for_nothing(tmp_path: Path) -> None:
    flag, said = tmp_path / "stop", list[str]()
    with stopping.stopped_by_signals(said.append), stopping.draining_on_signals(flag):
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.read_text() == ""
        assert ["Ctrl-C again ends it at once" in line for line in said] == [True]
        with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
            interrupt_myself()


@pytest.mark.parametrize(("signal_number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_was_drained_ends_with_the_exit_code_of_its_signal(tmp_path: Path, signal_number: int, exit_code: int) -> None:
    def run() -> None:
        with stopping.stopped_by_signals():
            with stopping.draining_on_signals(tmp_path / "stop"):
                os.kill(os.getpid(), signal_number)
            raise stopping.StoppedError("stopped with 3 of 8 rows finished")

    with pytest.raises(stopping.StoppedError) as stopped:
        run()
    assert stopped.value.exit_code == exit_code


def test_ctrl_c_outside_of_a_drain_is_an_interruption() -> None:
    with stopping.stopped_by_signals(), pytest.raises(KeyboardInterrupt) as interrupted:
        interrupt_myself()
    assert not isinstance(interrupted.value, stopping.StoppedError)
