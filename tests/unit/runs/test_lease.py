"""Of two drivers one goes on; a dead one is followed at once where it can be looked up, and else when it has shown no life for long."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from cgd_ray.process.faults import RefusedError
from cgd_ray.runs.lease import EXIT_LOST, STALE_HEARTBEATS, Holder, leased
from tests.processes import begun

HEARTBEAT_S = 0.3
HOLDING = """
import sys, time
from pathlib import Path
from cgd_ray.process.faults import RefusedError
from cgd_ray.runs.lease import leased
say = lambda line: print(line, flush=True)
try:
    with leased(Path(sys.argv[1]), say, take_over=len(sys.argv) > 3, heartbeat_s=float(sys.argv[2])) as number:
        say(f"holds {number}")
        sys.stdin.read()
except RefusedError as error:
    say(f"refused: {error}")
"""


def lease_of(root: Path) -> Path:
    return root / "run" / "work" / "lease"


def driver(root: Path, *options: str) -> "subprocess.Popen[bytes]":
    """A process that holds the lease until its input ends."""
    command = [sys.executable, "-c", HOLDING, str(lease_of(root)), str(HEARTBEAT_S), *options]
    return begun(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def said(process: "subprocess.Popen[bytes]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().rstrip()


def taken(root: Path, lines: list[str] | None = None) -> int:
    said = list[str]() if lines is None else lines
    with leased(lease_of(root), said.append, heartbeat_s=HEARTBEAT_S) as number:
        return number


@contextmanager
def elsewhere(root: Path, lives: bool) -> Iterator[None]:
    """A lease that a process of another machine holds, and touches if it lives."""
    lease = lease_of(root) / "000007.json"
    lease.parent.mkdir(parents=True)
    lease.write_text(json.dumps(asdict(Holder.here()) | {"host": "node-b", "boot": "another"}))
    ended = threading.Event()

    def touch() -> None:
        while lives and not ended.wait(HEARTBEAT_S):
            lease.touch()

    thread = threading.Thread(target=touch)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_a_second_driver_is_refused_while_the_first_lives_and_goes_on_as_soon_as_it_has_ended(tmp_path: Path) -> None:
    first = driver(tmp_path)
    assert said(first) == "holds 1"
    refusal = rf"^run_dir {tmp_path}/run is held by process {first.pid} on .*, which is alive; wait .*, or add --take-over to end it$"
    with pytest.raises(RefusedError, match=refusal):
        taken(tmp_path)
    first.communicate()
    assert taken(tmp_path) == 2


def test_a_killed_driver_on_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    first, lines = driver(tmp_path), list[str]()
    assert said(first) == "holds 1"
    first.send_signal(signal.SIGKILL)
    time.sleep(0.2)  # it is dead and nobody has waited for it: a zombie is no driver either
    assert taken(tmp_path, lines) == 2
    assert lines == []


def test_a_driver_that_lives_ends_with_one_line_when_it_is_taken_over(tmp_path: Path) -> None:
    first = driver(tmp_path)
    assert said(first) == "holds 1"
    second = driver(tmp_path, "--take-over")
    assert said(second).startswith(f"taking over {tmp_path}/run; its former driver ends within")
    lost = said(first)
    assert first.wait(10) == EXIT_LOST
    assert said(second) == "holds 2", "once the first has had the time to end"
    assert lost.startswith(f"run_dir {tmp_path}/run was taken over by process {second.pid} on ")
    assert lost.endswith("; this driver ends and writes no more")


def test_a_driver_that_was_stopped_for_long_ends_when_it_wakes_up_and_another_has_gone_on(tmp_path: Path) -> None:
    first = driver(tmp_path)
    assert said(first) == "holds 1"
    first.send_signal(signal.SIGSTOP)
    second = driver(tmp_path, "--take-over")
    assert [said(second).partition(" ")[0], said(second)] == ["taking", "holds 2"]
    first.send_signal(signal.SIGCONT)
    assert first.wait(10) == EXIT_LOST


def test_a_driver_of_another_machine_that_lives_is_not_followed(tmp_path: Path) -> None:
    lines = list[str]()
    with elsewhere(tmp_path, lives=True), pytest.raises(RefusedError, match=r"is held by process .* on node-b, which is alive"):
        taken(tmp_path, lines)
    assert lines == [f"a process on node-b holds this run directory; watching for {STALE_HEARTBEATS * HEARTBEAT_S:.0f} s whether it lives"]


def test_a_driver_of_another_machine_that_shows_no_life_is_followed(tmp_path: Path) -> None:
    with elsewhere(tmp_path, lives=False):
        assert taken(tmp_path) == 8
    assert [file.name for file in lease_of(tmp_path).iterdir()] == ["000008.json"]


def test_of_many_that_follow_a_dead_driver_at_the_same_moment_one_goes_on(tmp_path: Path) -> None:
    first = driver(tmp_path)
    assert said(first) == "holds 1"
    first.kill()
    followers = [driver(tmp_path) for _ in range(4)]
    answers = sorted(said(follower).partition(":")[0] for follower in followers)
    assert answers == ["holds 2", "refused", "refused", "refused"]


def test_a_lease_that_was_killed_while_it_was_written_is_followed_like_one_that_shows_no_life(tmp_path: Path) -> None:
    lease_of(tmp_path).mkdir(parents=True)
    (lease_of(tmp_path) / "000001.json").touch()
    assert taken(tmp_path) == 2
