"""Models by their names on a hub: one commit for a whole run, also for a machine that begins with an empty cache."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgd_ray.data.rundir import RunDir, file_sha256, read_json
from tests.hub import Hub

pytestmark = pytest.mark.slow  # tests/unit/cluster/test_hub.py asks the same hub by default
CONFIG = "jobs/configs/tinymath.yaml"
MODELS = Path("examples/tinymath/models").absolute()
SETTINGS = ("student.model=tiny/student", "teacher.model=tiny/teacher", "problems.limit=48", "evaluation=null", "training.num_epochs=1")


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


def cgd(command: str, run: RunDir, hub: Hub, cache: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(cache)}
    command_line = [sys.executable, "-m", "cgd_ray.cli", command, CONFIG, f"run_dir={run.root}", *SETTINGS]
    done = subprocess.run(command_line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_a_machine_with_an_empty_cache_trains_the_commit_that_the_run_began_with(hub: Hub, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    commit = hub.push("tiny/student", MODELS / "student")
    hub.push("tiny/teacher", MODELS / "teacher")
    cgd("generate", run, hub, tmp_path / "first")
    hub.push("tiny/student", MODELS / "teacher")  # the name means another model from now on
    hub.requests.clear()
    cgd("train", run, hub, tmp_path / "second")
    assert commit in json.dumps(read_json(run.contents))
    (weights,) = (tmp_path / "second").rglob("model.safetensors")
    assert file_sha256(weights) == file_sha256(MODELS / "student" / "model.safetensors")
    assert not any("tiny/teacher" in path for path in hub.requests), "a training needs no teacher"
    assert (run.model / "model.safetensors").exists()
