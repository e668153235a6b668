"""Kills without warning at seeded steps, of a rank, of the driver and of a node: the training ends with the uninterrupted one's numbers."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from cgd_ray.training.job import TrainJob
from cgd_ray.training.observe.metrics import read_metrics
from tests.distributed import run_ranks
from tests.trainings import Trainings, train_all

LONG: dict[str, Any] = {"num_epochs": 20, "checkpoint_every_steps": 3}
NUM_STEPS = 60
PATIENCE_S = 300


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    made = Trainings.make(tmp_path_factory.mktemp("chaos"))
    run_ranks(2, made.root / "meet", train_all, [made.job("uninterrupted", **LONG)])
    return made


def kill_step(seed: int) -> int:
    """Late enough for a checkpoint, early enough to leave something to do."""
    return random.Random(seed).randint(5, 20)


@contextmanager
def started(job: TrainJob, num_nodes: int = 1) -> Iterator["subprocess.Popen[bytes]"]:
    """The training in a process of its own; whatever it has started is gone afterwards."""
    root = Path(job.metrics).parent
    root.mkdir(exist_ok=True)
    (root / "job.json").write_text(json.dumps(asdict(job)))
    command = [sys.executable, "-m", "tests.chaos.train_job", str(root / "job.json"), str(root / "raylet"), str(num_nodes)]
    with (root / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            family = family_of(process.pid)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()


def family_of(pid: int) -> list[psutil.Process]:
    """A process, if it lives, and all that it has started."""
    try:
        parent = psutil.Process(pid)
        return [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return []


def ranks_of(pid: int) -> list[int]:
    """Processes of the training's workers."""
    found = []
    for member in family_of(pid):
        with contextlib.suppress(psutil.Error):  # it may be ending just now
            if "TrainWorker" in " ".join(member.cmdline()):
                found.append(member.pid)
    return found


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, "the training ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def saved_steps(job: TrainJob) -> list[int]:
    return sorted(int(path.parent.name.removeprefix("step-")) for path in Path(job.checkpoints).glob("step-*/manifest.json"))


def num_steps(job: TrainJob) -> int:
    return len(read_metrics(Path(job.metrics)))


def assert_every_step_was_taken_once(trainings: Trainings, name: str) -> None:
    assert (trainings.root / name / "trained").exists()
    assert [line["train/step"] for line in trainings.metrics(name)] == list(range(1, NUM_STEPS + 1))
    assert [line["train/tokens"] for line in trainings.metrics(name)] == [
        line["train/tokens"] for line in trainings.metrics("uninterrupted")
    ]


def assert_bitwise_the_uninterrupted(trainings: Trainings, name: str) -> None:
    assert_every_step_was_taken_once(trainings, name)
    assert_same_bits(trainings, name)


def assert_same_bits(trainings: Trainings, name: str) -> None:
    assert trainings.losses(name) == trainings.losses("uninterrupted")
    resumed, reference = trainings.weights(name), trainings.weights("uninterrupted")
    assert all(torch.equal(resumed[weight], reference[weight]) for weight in reference)


@pytest.mark.slow  # tests/integration/test_live.py kills one by default, and what resumes is compared bit by bit in test_training_resume.py
def test_a_killed_rank_changes_no_bit(trainings: Trainings) -> None:
    job, step = trainings.job("rank", **LONG), kill_step(seed=1)
    with started(job) as process:
        wait_until(lambda: num_steps(job) >= step, process)
        os.kill(ranks_of(process.pid)[-1], signal.SIGKILL)
        assert num_steps(job) < NUM_STEPS
        process.wait(PATIENCE_S)
    assert_bitwise_the_uninterrupted(trainings, "rank")


@pytest.mark.slow  # tests/integration/test_live.py asks one by default
def test_a_training_asked_to_stop_saves_the_step_under_way_and_repeats_none(trainings: Trainings) -> None:
    job = trainings.job("stopped", **{**LONG, "checkpoint_every_steps": None})
    with started(job) as process:
        wait_until(lambda: num_steps(job) >= 5, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) != 0
    taken = trainings.metrics("stopped")
    assert 5 <= len(taken) < NUM_STEPS
    assert saved_steps(job) == [len(taken)]
    assert not Path(job.export_to).exists()
    Path(job.stop_flag).unlink()  # as the next driver does
    run_ranks(2, trainings.root / "meet-again", train_all, [job])
    assert trainings.metrics("stopped")[: len(taken)] == taken
    assert_same_bits(trainings, "stopped")


@pytest.mark.slow
def test_a_training_saves_when_a_node_is_about_to_be_taken_away_and_goes_on_with_the_others(trainings: Trainings) -> None:
    many: dict[str, Any] = {"num_epochs": 200, "num_workers": [1, 2], "checkpoint_every_steps": 500}  # 600 steps
    job = trainings.job("preempted", **many)
    with started(job, num_nodes=2) as process:
        wait_until(lambda: num_steps(job) >= 10, process)
        node = json.loads((Path(job.metrics).parent / "raylet").read_text())
        reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=test", "--deadline-remaining-seconds=8"]
        ray = Path(sys.executable).with_name("ray")
        subprocess.run([ray, "drain-node", f"--address={node['address']}", f"--node-id={node['id']}", *reason], check=True)
        wait_until(lambda: bool(saved_steps(job)), process)
        (saved,) = saved_steps(job)
        assert 10 <= saved < 500  # none was due
        process.wait(PATIENCE_S)
    assert (trainings.root / "preempted" / "trained").exists()
    lines = trainings.metrics("preempted")
    assert [line["train/step"] for line in lines] == list(range(1, 601))
    workers = [line["train/world_size"] for line in lines]
    assert workers == [2] * saved + [1] * (600 - saved)


@pytest.mark.slow
def test_a_killed_driver_is_started_again_and_changes_no_bit(trainings: Trainings) -> None:
    job, step = trainings.job("driver", **LONG), kill_step(seed=2)
    with started(job) as process:
        wait_until(lambda: num_steps(job) >= step, process)
        family = family_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        assert num_steps(job) < NUM_STEPS
        _, alive = psutil.wait_procs(family, timeout=5)  # Ray's processes follow the driver, some of them minutes later
        for member in alive:
            member.kill()
    assert not Path(job.export_to).exists()
    with started(job) as process:
        process.wait(PATIENCE_S)
    assert_bitwise_the_uninterrupted(trainings, "driver")


@pytest.mark.slow
def test_an_elastic_training_goes_on_with_the_worker_that_a_killed_node_leaves(trainings: Trainings) -> None:
    job, step = trainings.job("node", **LONG, **{"num_workers": [1, 2]}), kill_step(seed=3)
    with started(job, num_nodes=2) as process:
        wait_until(lambda: num_steps(job) >= step, process)
        raylet = json.loads((Path(job.metrics).parent / "raylet").read_text())["pid"]
        for member in family_of(raylet):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        assert num_steps(job) < NUM_STEPS
        process.wait(PATIENCE_S)
    assert_every_step_was_taken_once(trainings, "node")
    workers = [line["train/world_size"] for line in trainings.metrics("node")]
    assert sorted(workers, reverse=True) == workers
    assert set(workers) == {1, 2}
    assert trainings.losses("node") == pytest.approx(trainings.losses("uninterrupted"), rel=1e-3)
