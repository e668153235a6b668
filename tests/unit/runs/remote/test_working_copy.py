"""A run directory on an object store, seen from a command: brought, published while it works, kept when the store is away."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config import Config, load_config
from cgd_ray.data.rundir import RunDir
from cgd_ray.process.faults import RefusedError, StageFailedError
from cgd_ray.runs.lease import EXIT_LOST, leased
from cgd_ray.runs.remote import working_copy as module
from cgd_ray.runs.remote.leasing import NAME
from cgd_ray.runs.remote.objects import Objects
from cgd_ray.runs.remote.snapshots import CONTENTS, INDEX, Snapshots
from cgd_ray.runs.remote.working_copy import directory_of, looked_at, working_copy
from tests.buckets import Buckets
from tests.processes import begun

RECIPE = "jobs/configs/tinymath.yaml"
DRIVER = """
import sys, time
from pathlib import Path
from cgd_ray.config import load_config
from cgd_ray.runs.remote import working_copy as module
module.PUBLISH_EVERY_S = module.HEARTBEAT_S = 0.2
if __name__ == "__main__":
    with module.working_copy(load_config(sys.argv[1], sys.argv[2:]), lambda line: print(line, flush=True), take_over=False) as config:
        (Path(config.run_dir) / "made").write_text("1")
        print("working", flush=True)
        time.sleep(60)
"""


def config(url: str, place: Path) -> Config:
    return load_config(RECIPE, [f"run_dir={url}", f"working_dir={place}"])


def said() -> tuple[list[str], Any]:
    lines: list[str] = []
    return lines, lines.append


def test_a_directory_is_what_it_was(tmp_path: Path) -> None:
    given = load_config(RECIPE, [f"run_dir={tmp_path}"])
    with working_copy(given, print, take_over=False) as got:
        assert got is given
    assert looked_at(given) is given
    assert directory_of(given) == tmp_path


def test_what_a_command_makes_is_there_for_the_next_one_on_another_machine(url: str, store: Objects, tmp_path: Path) -> None:
    lines, say = said()
    with working_copy(config(url, tmp_path / "a"), say, take_over=False) as here:
        assert Path(here.run_dir) == directory_of(config(url, tmp_path / "a"))
        (Path(here.run_dir) / "file").write_text("1")
    with working_copy(config(url, tmp_path / "b"), say, take_over=False) as there:
        assert (Path(there.run_dir) / "file").read_text() == "1"
    assert lines[0] == f"run_dir: {url}, worked on in {directory_of(config(url, tmp_path / 'a'))}"
    assert lines[1].endswith(", 1 files came from there")
    read = looked_at(config(url, tmp_path / "c"))
    assert (Path(read.run_dir) / "file").read_text() == "1"


def test_a_copy_in_which_a_driver_works_is_looked_at_as_it_is(url: str, store: Objects, tmp_path: Path) -> None:
    here = config(url, tmp_path / "a")
    with working_copy(here, print, take_over=False) as work:
        (Path(work.run_dir) / "file").write_text("1")
    with working_copy(config(url, tmp_path / "b"), print, take_over=False) as there:
        (Path(there.run_dir) / "more").write_text("1")
    with leased(RunDir(directory_of(here)).lease, print):
        (directory_of(here) / "newer").write_text("1")
        assert (Path(looked_at(here).run_dir) / "newer").exists()
    assert not (Path(looked_at(here).run_dir) / "newer").exists()


def test_what_a_failed_command_has_made_is_published_too(url: str, store: Objects, tmp_path: Path) -> None:
    def fail() -> None:
        with working_copy(config(url, tmp_path), print, take_over=False) as here:
            (Path(here.run_dir) / "file").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(list(store.names(CONTENTS))) == 1


def start(url: str, place: Path, buckets: Buckets) -> "subprocess.Popen[bytes]":
    """Another driver, which has begun to work."""
    command = [sys.executable, "-c", DRIVER, RECIPE, f"run_dir={url}", f"working_dir={place}"]
    environment = {**os.environ, **buckets.environment, "PYTHONPATH": os.getcwd()}
    driver = begun(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert driver.stdout is not None
    lines: list[bytes] = []
    while not lines or lines[-1] != b"working\n":
        lines.append(driver.stdout.readline())
        assert lines[-1], lines
    return driver


def test_a_driver_that_is_killed_leaves_what_it_has_published_and_the_next_one_goes_on_at_once(
    url: str, store: Objects, buckets: Buckets, tmp_path: Path
) -> None:
    driver = start(url, tmp_path / "a", buckets)
    deadline = time.monotonic() + 20
    while (index := store.read(INDEX)) is None or b"made" not in index[0]:  # contents go first, and without it they are nothing
        assert time.monotonic() < deadline
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    with working_copy(config(url, tmp_path / "b"), print, take_over=False) as there:
        assert (Path(there.run_dir) / "made").exists()


def test_of_two_drivers_the_second_is_refused_or_ends_the_first(url: str, buckets: Buckets, tmp_path: Path) -> None:
    driver = start(url, tmp_path / "a", buckets)
    with pytest.raises(RefusedError, match="is held by process"), working_copy(config(url, tmp_path / "b"), print, take_over=False):
        raise AssertionError("both at once")
    assert driver.poll() is None
    with working_copy(config(url, tmp_path / "b"), print, take_over=True):
        assert driver.wait(timeout=20) == EXIT_LOST
    assert driver.stdout is not None
    assert b"was taken over by process" in driver.stdout.read()


@pytest.mark.slow  # one that stays away is asked by default
def test_a_store_that_is_away_for_a_while_costs_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Buckets(tmp_path / "server")
    own.use(monkeypatch)
    for name in ("PUBLISH_EVERY_S", "HEARTBEAT_S"):
        monkeypatch.setattr(module, name, 0.2)
    lines, say = said()
    with working_copy(config(url, tmp_path / "a"), say, take_over=False) as here:
        own.kill()
        (Path(here.run_dir) / "file").write_text("1")
        deadline = time.monotonic() + 60
        while not any("is published when the store answers" in line for line in lines):
            assert time.monotonic() < deadline, lines
            time.sleep(0.2)
        own.start()
    with working_copy(config(url, tmp_path / "b"), say, take_over=False) as there:
        assert (Path(there.run_dir) / "file").exists()
    own.kill()


def test_a_store_that_stays_away_leaves_the_run_in_the_working_copy(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Buckets(tmp_path / "server")
    own.use(monkeypatch)
    monkeypatch.setattr(module, "LAST_TRIES_S", 1.0)
    place = directory_of(config(url, tmp_path / "a"))

    def work() -> None:
        with working_copy(config(url, tmp_path / "a"), print, take_over=False) as here:
            own.kill()
            (Path(here.run_dir) / "file").write_text("1")

    with pytest.raises(StageFailedError, match=rf"does not take the last snapshot .*kept in {place}, then the same command goes on"):
        work()
    assert (place / "file").exists()


def test_the_lease_is_held_while_files_come_and_go_however_long_that_takes(
    url: str, store: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.1)
    versions: list[object] = []

    class SlowSnapshots(Snapshots):
        def restore(self, number: int) -> int:
            time.sleep(0.5)
            versions.append(store.read(NAME))
            return super().restore(number)

        def publish(self) -> bool:
            versions.append(store.read(NAME))
            time.sleep(0.5)
            versions.append(store.read(NAME))
            return super().publish()

    monkeypatch.setattr(module, "Snapshots", SlowSnapshots)
    with working_copy(config(url, tmp_path), print, take_over=False):
        pass
    beats = [json.loads(found[0])["beats"] for found in versions]  # type: ignore[index]
    assert beats[0] > 0
    assert beats[2] > beats[1]


def test_what_the_store_refuses_is_one_line(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(RefusedError, match=r"^run_dir: the store refuses: s3://.*403[^\n]*; check the bucket, [^\n]*$"):  # noqa: SIM117
        with working_copy(config(url, tmp_path), print, take_over=False):
            raise AssertionError("the store has let us in")
    with pytest.raises(ValueError, match="the store refuses"):
        looked_at(config(url, tmp_path))


@pytest.mark.parametrize("url", ["ftp://host/run", "s3://"])
def test_a_url_of_an_unknown_kind_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"is no object store's URL; it may begin with s3://"):  # noqa: SIM117
        with working_copy(config(url, tmp_path), print, take_over=False):
            raise AssertionError("there is no such store")
