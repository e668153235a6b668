"""The whole job with its run directory on a real S3 server that is killed twice, by drivers of which one is killed with its disk."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgd_ray.config import load_config
from cgd_ray.runs.remote.working_copy import directory_of, looked_at
from tests.buckets import Buckets
from tests.builders import read_parts
from tests.processes import begun, stop

pytestmark = pytest.mark.slow  # tests/unit/runs/remote kills servers and drivers by default
CONFIG = "jobs/configs/tinymath.yaml"
SETTINGS = (
    "problems.limit=48",
    "evaluation.problems.limit=24",
    "generation.rows_per_block=8",
    "generation.batch_size=8",
    "student.engine={dtype: float32}",
    "teacher.engine={dtype: float32}",
    "training.checkpoint_every_steps=2",
)
AWAY_S = 15.0
PATIENCE_S = 600.0


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buckets]:
    server = Buckets(tmp_path / "server")
    server.use(monkeypatch)
    yield server
    server.kill()


def start(*settings: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cgd_ray.cli", "run", CONFIG, *settings, *SETTINGS]
    return begun(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for(what: Callable[[], object], driver: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert driver.poll() is None, (driver.communicate()[0] or b"").decode()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def away_for_a_while(buckets: Buckets) -> None:
    buckets.kill()
    time.sleep(AWAY_S)
    buckets.start()


def published(url: str, place: Path) -> Path:
    """What another machine sees of a run."""
    return Path(looked_at(load_config(CONFIG, [f"run_dir={url}", f"working_dir={place}"])).run_dir)


def test_a_run_on_an_object_store_makes_what_one_on_a_disk_makes(buckets: Buckets, tmp_path: Path) -> None:
    plain = start(f"run_dir={tmp_path / 'plain'}")
    assert plain.wait() == 0, (plain.communicate()[0] or b"").decode()[-3000:]

    url = "s3://runs/whole/job"
    first, second = (load_config(CONFIG, [f"run_dir={url}", f"working_dir={tmp_path / name}"]) for name in ("first", "second"))
    assert first.working_dir is not None
    assert second.working_dir is not None
    driver = start(f"run_dir={url}", f"working_dir={first.working_dir}")
    records = directory_of(first) / "records"
    wait_for(lambda: len(list(records.glob("*.parquet"))) >= 1, driver)
    away_for_a_while(buckets)
    wait_for(
        lambda: list(
            Path(looked_at(load_config(CONFIG, [f"run_dir={url}", f"working_dir={tmp_path / 'look'}"])).run_dir).rglob("*_0*.parquet")
        ),
        driver,
    )
    stop(driver.pid)
    shutil.rmtree(first.working_dir)

    driver = start(f"run_dir={url}", f"working_dir={second.working_dir}")
    wait_for(lambda: list((directory_of(second) / "training" / "checkpoints").glob("step-*/manifest.json")), driver)
    away_for_a_while(buckets)
    output = driver.communicate()[0].decode()
    assert driver.returncode == 0, output[-3000:]
    assert "files came from there" in output

    shutil.rmtree(second.working_dir)
    third = published(url, tmp_path / "third")
    in_order = [("problem_id", "ascending"), ("sample_index", "ascending")]
    of_plain, of_store = (read_parts(run / "records").sort_by(in_order).to_pylist() for run in (tmp_path / "plain", third))
    texts = ("record_id", "attempt", "critique", "refinement", "error")
    assert [[row[name] for name in texts] for row in of_store] == [[row[name] for name in texts] for row in of_plain]
    weights = [hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest() for run in (tmp_path / "plain", third)]
    assert weights[0] == weights[1]
