"""The page is made anew only where the run has changed, and what was seen survives what cannot be read."""

from itertools import count
from pathlib import Path

import pytest

from cgd_ray.data.rundir import RunDir
from cgd_ray.reporting.view.live_page import LivePage
from tests.unit.reporting.health.runs import MadeRun


def page_of(run: RunDir) -> LivePage:
    """A page that looks at each request: time goes ten times as far between two questions for it, so that all rests are over."""
    return LivePage(run, clock=(10.0**number for number in count()).__next__)


def num_records(page: LivePage) -> int:
    (run,) = page.now().payload["runs"]
    total: int = run["data"]["num_records"]
    return total


def test_a_run_is_followed_from_before_it_exists_to_its_end(tmp_path: Path) -> None:
    page = page_of(RunDir(tmp_path / "run"))
    assert num_records(page) == 0
    run = MadeRun(tmp_path / "run")
    assert num_records(page) == 0
    run.add_records(40)
    assert num_records(page) == 40
    run.add_records(40)
    assert num_records(page) == 80
    run.finish()
    assert num_records(page) == 80


def test_where_nothing_has_changed_the_same_snapshot_is_served(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    page = page_of(run.directory)
    first = page.now()
    assert page.now() is first
    run.add_records(10)
    assert page.now().stamp != first.stamp


def test_advisories_come_with_the_page(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(64, error="attempt: refused")
    (found,) = LivePage(run.directory).now().payload["advisories"]
    assert (found["level"], found["title"]) == ("error", "Rows fail")


def test_what_was_seen_stays_while_the_run_cannot_be_read(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(40)
    page = page_of(run.directory)
    assert num_records(page) == 40
    run.add_records(32)[0].write_bytes(b"no Parquet")
    assert num_records(page) == 40
    assert [found["title"] for found in page.now().payload["advisories"]] == ["The run directory cannot be read now"]


def test_a_run_that_never_could_be_read_is_told(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.add_records(32)[0].write_bytes(b"no Parquet")
    page = page_of(run.directory)
    for _ in range(2):
        with pytest.raises(ValueError, match="Parquet"):
            page.now()


def test_between_two_looks_nothing_is_read_and_a_long_look_is_followed_by_a_long_rest(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    # a request asks once for the time, a look twice: the first look takes 10 s
    times = iter([0.0, 10.0, 29.9, 30.0, 30.0, 30.0])
    page = LivePage(run.directory, clock=times.__next__)
    assert num_records(page) == 0
    run.add_records(10)
    assert num_records(page) == 0
    assert num_records(page) == 10
