"""The main job on three machines with a token: as on one machine, however it is submitted, and whatever is lost on the way."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.data.durable import IDS, committed
from cgd_ray.data.rundir import RunDir, file_sha256, manifest_parts
from tests.cluster.lab import DASHBOARD, RAY, SHARED, Lab, lab, why_not

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]

CONFIG = "jobs/configs/tinymath.yaml"
CGD = [sys.executable, "-m", "cgd_ray.cli"]
NUM_PROBLEMS = 96
SETTINGS = (
    f"problems.limit={NUM_PROBLEMS}",
    "evaluation.problems.limit=24",
    "student.engine={dtype: float32}",
    "teacher.engine={dtype: float32}",
    "training.precision=fp32",
    "training.num_epochs=2",
    "training.checkpoint_every_steps=2",
    "training.cpus_per_worker=2",  # so that each node has room for one of the two
)
JOB_S = 600
SEEDS = range(5)
CUT_S = 60.0


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A head without CPUs and two nodes."""
    with lab(tmp_path_factory.mktemp("lab")) as machines:
        machines.start_head()
        for number in (2, 3):
            machines.add_node(number)
        yield machines


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The same job on this machine, in a Ray of its own."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    command = [*CGD, "run", CONFIG, f"run_dir={run_dir}", *SETTINGS, "cluster.num_cpus=4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=JOB_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return RunDir(run_dir)


def outside(machines: Lab, name: str) -> RunDir:
    """A run directory as it is seen from here."""
    return RunDir(machines.shared / name)


def submitting(name: str, *settings: str) -> list[str]:
    return [*CGD, "submit", CONFIG, "--address", DASHBOARD, f"run_dir={SHARED / name}", *SETTINGS, *settings]


def started(machines: Lab, name: str, *settings: str) -> "subprocess.Popen[str]":
    """A job that is followed while something happens to it."""
    return followed(machines, submitting(name, *settings))


def followed(machines: Lab, command: Sequence[str | Path]) -> "subprocess.Popen[str]":
    inside = machines.on_client(command)
    return subprocess.Popen(inside, env=machines.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def submitted_to_ray(*words: str | Path, options: Sequence[str] = ()) -> list[str | Path]:
    """A job of these words by Ray's own command."""
    return [RAY, "job", "submit", "--address", DASHBOARD, *options, "--working-dir", ".", "--", "python", *words]


def begun_by_ray(machines: Lab, command: str, name: str, *settings: str) -> "subprocess.Popen[str]":
    """A command as a job, followed by its status: Ray's own command waits for ever when a node is lost, though its job has succeeded."""
    words = ("-m", "cgd_ray.cli", command, CONFIG, f"run_dir={SHARED / name}", *SETTINGS, *settings)
    done = machines.run(submitted_to_ray(*words, options=["--no-wait", f"--submission-id={name}"]), JOB_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return followed(machines, [*CGD, "logs", name, "--address", DASHBOARD, "--follow"])


def texts(run: RunDir) -> dict[str, Any]:
    """What was generated for each record."""
    table = pa.concat_tables([pq.read_table(part) for part in manifest_parts(run.records)])
    return {row["record_id"]: [row[name] for name in ("attempt", "critique", "refinement", "error")] for row in table.to_pylist()}


def losses(run: RunDir) -> list[float]:
    return [json.loads(line)["train/loss"] for line in run.metrics.read_text().splitlines()]


def assert_as_alone(run: RunDir, alone: RunDir) -> None:
    """The records and the student of the undisturbed run on one machine."""
    assert texts(run) == texts(alone)
    assert losses(run) == losses(alone)
    assert file_sha256(run.model / "model.safetensors") == file_sha256(alone.model / "model.safetensors")


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + JOB_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_job_that_cgd_submits_makes_the_records_and_the_student_of_one_machine(machines: Lab, alone: RunDir) -> None:
    done = machines.run(submitting("cgd"), JOB_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_as_alone(outside(machines, "cgd"), alone)


def test_a_job_that_ray_submits_does_too(machines: Lab, alone: RunDir) -> None:
    done = machines.run(submitted_to_ray("jobs/run.py", CONFIG, f"run_dir={SHARED / 'ray'}", *SETTINGS), JOB_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_as_alone(outside(machines, "ray"), alone)


def test_whoever_has_no_token_is_refused(machines: Lab) -> None:
    done = machines.run(submitting("nobody"), 60, RAY_AUTH_MODE="", RAY_AUTH_TOKEN_PATH="")
    assert done.returncode == 2
    assert done.stderr.startswith("cgd: the cluster wants a token (Authentication required: Unauthorized")


def test_the_doctor_finds_what_is_wrong_with_the_nodes(machines: Lab) -> None:
    command = submitted_to_ray("-m", "cgd_ray.cli", "doctor", CONFIG)
    done = machines.run([*command, f"run_dir={SHARED / 'doctor'}"], JOB_S)
    said = done.stdout + done.stderr
    findings = {line for line in said.splitlines() if re.match(r"(head|node-\d): ", line)}
    assert len(findings) == 3, said
    assert all("/dev/shm has 2.0 of" in line for line in findings), "as the lab makes it; nothing else is wrong"
    blind = machines.run([*command, "run_dir=/mnt/not-shared"], JOB_S)
    assert "node-2: the run directory is another one than the driver's" in blind.stdout + blind.stderr


def test_a_run_directory_that_the_nodes_do_not_share_is_refused(machines: Lab) -> None:
    done = machines.run([word.replace(str(SHARED), "/mnt/apart") for word in submitting("apart")], JOB_S)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cgd: run_dir /mnt/apart/apart is another directory on node-2, node-3 than on head, where the driver is" in done.stdout


def test_a_second_driver_is_refused_and_a_stopped_job_ends_in_order_and_goes_on(machines: Lab, alone: RunDir) -> None:
    run, settings = outside(machines, "stopped"), ("generation.rows_per_block=8",)
    process = started(machines, "stopped", *settings)
    wait_until(lambda: len(committed(run.generation_state / IDS)) >= 2, process)
    again = machines.run(submitting("stopped", *settings), JOB_S)
    assert (again.returncode, "has job stopped-run-1, which is RUNNING" in again.stderr) == (2, True), again.stderr
    other = machines.run(submitted_to_ray("jobs/run.py", CONFIG, f"run_dir={SHARED / 'stopped'}", *SETTINGS, *settings), JOB_S)
    assert other.returncode != 0
    assert "is held by process" in other.stdout + other.stderr, other.stdout + other.stderr
    done = machines.run([*CGD, "stop", "stopped-run-1", "--address", DASHBOARD], JOB_S)
    assert done.stdout.endswith("stopped-run-1 has ended: STOPPED\n"), done.stdout + done.stderr
    output, _ = process.communicate(timeout=JOB_S)
    assert process.returncode == 143, output
    assert "; the same command " in output, output  # makes the other rows, or goes on with the training: wherever it was
    final = machines.run(submitting("stopped", *settings), JOB_S)
    assert final.returncode == 0, final.stdout + final.stderr
    assert "stopped-run-2 has ended with exit code 0" in final.stdout
    assert texts(run) == texts(alone)


def kill(machines: Lab) -> None:
    machines.kill_node(3)


def cut_off(machines: Lab) -> None:
    """Without a network for longer than Ray believes in it; what has come back is started anew, as whoever runs the nodes does."""
    machines.cut(3, is_cut=True)
    time.sleep(CUT_S)
    machines.cut(3, is_cut=False)
    machines.kill_node(3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", [kill, cut_off])
def test_a_node_that_is_lost_while_records_are_made_and_comes_back_costs_none(
    fault: Callable[[Lab], None], seed: int, machines: Lab, alone: RunDir
) -> None:
    run, choice = outside(machines, f"{fault.__name__}-generation-{seed}"), random.Random(f"{fault.__name__} {seed}")
    slow = [f"{role}.placement.requests_in_flight=4" for role in ("student", "teacher")]
    process = begun_by_ray(machines, "generate", run.root.name, "generation.rows_per_block=16", *slow)
    parts = choice.randint(0, 4)  # of 6
    wait_until(lambda: run.generation_state.exists() and len(committed(run.generation_state / IDS)) >= parts, process)
    output = _lost_and_back(machines, fault, process)
    assert texts(run) == texts(alone), output


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", [kill, cut_off])
def test_a_node_that_is_lost_while_the_student_trains_and_comes_back_costs_no_step(
    fault: Callable[[Lab], None], seed: int, machines: Lab, alone: RunDir
) -> None:
    run, choice = outside(machines, f"{fault.__name__}-training-{seed}"), random.Random(f"{fault.__name__} {seed}")
    shutil.copytree(alone.records, machines.shared / "records", dirs_exist_ok=True)
    process = begun_by_ray(machines, "run", run.root.name, f"records={SHARED / 'records'}", "evaluation=null")
    step = choice.randint(1, len(losses(alone)) - 2)
    wait_until(lambda: run.metrics.exists() and len(losses(run)) >= step, process)
    output = _lost_and_back(machines, fault, process)
    assert losses(run) == losses(alone), output
    assert file_sha256(run.model / "model.safetensors") == file_sha256(alone.model / "model.safetensors")


def _lost_and_back(machines: Lab, fault: Callable[[Lab], None], process: "subprocess.Popen[str]") -> str:
    """What the job says, which succeeds all the same."""
    fault(machines)
    machines.add_node(3)
    output, _ = process.communicate(timeout=JOB_S)
    assert process.returncode == 0, output
    return output


def test_a_lost_head_is_replaced_and_the_same_command_goes_on(machines: Lab, alone: RunDir) -> None:
    run, settings = outside(machines, "headless"), ("generation.rows_per_block=8",)
    process = started(machines, "headless", *settings)
    wait_until(lambda: len(committed(run.generation_state / IDS)) >= 2, process)
    for number in (1, 2, 3):  # the nodes would end by themselves, a minute later
        machines.kill_node(number)
    machines.start_head()
    for number in (2, 3):
        machines.add_node(number)
    output, _ = process.communicate(timeout=JOB_S)
    assert process.returncode == 2, output
    assert "if its head was started anew, submit the same again, and the run goes on" in output
    done = machines.run(submitting("headless", *settings), JOB_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert texts(run) == texts(alone)
    assert losses(run) == losses(alone)
