"""The rendered script on a real Slurm with two nodes: it ends as the run ends, and a job that loses a node goes on."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgd_ray.cluster.rendering import render
from cgd_ray.config import read_config
from cgd_ray.data.durable import IDS, committed
from cgd_ray.data.rundir import RunDir, read_manifest
from tests.cluster.lab import REPOSITORY, SHARED, Lab, lab, why_not
from tests.cluster.packages import installed
from tests.cluster.slurm import KEY, PACKAGES, PATIENCE_S, Slurm, slurm

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]

TINYMATH = REPOSITORY / "examples" / "tinymath"
PATHS = (
    f"problems.path={TINYMATH}/data/train.jsonl",
    f"evaluation.problems.path={TINYMATH}/data/heldout.jsonl",
    f"student.model={TINYMATH}/models/student",
    f"teacher.model={TINYMATH}/models/teacher",
    f"prompts={TINYMATH}/prompts.yaml",
)
SMALL = ("problems.limit=96", "evaluation.problems.limit=24", "generation.rows_per_block=8", "training.num_epochs=1")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as machines:
        yield machines


@pytest.fixture(scope="module")
def cluster(machines: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    packages = REPOSITORY / "build" / "slurm"
    if (problem := installed(packages, PACKAGES, KEY)) is not None:
        pytest.skip(f"Slurm's packages cannot be installed: {problem}")
    with slurm(machines, packages) as cluster:
        yield cluster


def script(machines: Lab, name: str, *overrides: str) -> Path:
    """The script for a run of this name, in the shared directory."""
    config = read_config("jobs/configs/tinymath.yaml", (*PATHS, *SMALL, f"run_dir={SHARED / name}", *overrides))
    values = [f"environment={REPOSITORY}/.venv", "gpus_per_node=0", "nodes=2", f"name={name}"]
    file = machines.shared / f"{name}.sbatch"
    file.write_text(render(config, "slurm", values))
    return file


def test_a_run_on_two_nodes_succeeds(cluster: Slurm, machines: Lab) -> None:
    job = cluster.submit(script(machines, "good"))
    assert cluster.wait(job) == ("COMPLETED", 0), cluster.log(job)
    assert "problems after" in cluster.log(job)
    assert not list((machines.shared / "good" / "slurm").glob("*/token"))


def test_a_run_that_is_refused_fails_the_job_with_its_exit_code(cluster: Slurm, machines: Lab) -> None:
    job = cluster.submit(script(machines, "bad", "student.context_length=10"))
    assert cluster.wait(job) == ("FAILED", 2), cluster.log(job)
    assert "cgd: student.context_length 10 is too small" in cluster.log(job)


def test_a_node_on_which_ray_does_not_start_fails_the_job(cluster: Slurm, machines: Lab) -> None:
    machines.on_node(3, ["sh", "-c", "rm -rf /tmp/ray && touch /tmp/ray"])  # where Ray wants a directory
    job = cluster.submit(script(machines, "broken"))
    state, code = cluster.wait(job)
    assert (state, code != 0) == ("FAILED", True), cluster.log(job)
    assert "cgd: Ray did not start, or ended too early, on node-3" in cluster.log(job)
    machines.on_node(3, ["rm", "/tmp/ray"])


def test_a_job_that_loses_a_node_is_queued_again_and_finishes(cluster: Slurm, machines: Lab) -> None:
    job, run = cluster.submit(script(machines, "lost")), RunDir(machines.shared / "lost")
    while not (run.records.exists() and len(committed(run.generation_state / IDS)) >= 2):
        assert cluster.state(job)["JobState"] in ("PENDING", "RUNNING", "CONFIGURING"), cluster.log(job)
    machines.kill_node(3)
    deadline = time.monotonic() + PATIENCE_S
    while cluster.state(job).get("Restarts") != "1":
        assert time.monotonic() < deadline, cluster.state(job)
        time.sleep(1)
    cluster.start_node(3)
    assert cluster.wait(job) == ("COMPLETED", 0), cluster.log(job)
    assert cluster.state(job)["Restarts"] == "1"
    manifest = read_manifest(run.records)
    assert manifest is not None
    assert (manifest["rows"], manifest["resumed"] > 0) == (96, True)
