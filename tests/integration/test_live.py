"""Generation and training at the same time, with fake engines and a real training: every example once, whatever is killed."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from cgd_ray.data.rundir import RunDir, read_manifest, write_json
from cgd_ray.generation.pipeline import records_fingerprint
from cgd_ray.reporting.summary import summarise
from cgd_ray.runs.live import run_live
from cgd_ray.training.checkpoints.store import directory_of
from cgd_ray.training.feed.step_writer import StepWriter
from cgd_ray.training.job import TrainJob
from cgd_ray.training.observe.metrics import read_metrics
from tests.builders import prepared_examples, random_examples
from tests.chaos.live_job import HELD_UNTIL_STEP, engines, make_config, prepared
from tests.distributed import run_ranks
from tests.fakes import FakeEngines
from tests.trainings import Trainings, train_all

PATIENCE_S = 300


def assert_every_kept_record_was_trained_once(run: RunDir) -> None:
    kept = [name for part in sorted(run.selected.glob("*.parquet")) for name in kept_of(part)]
    dealt = [
        name
        for step in sorted(run.packed.glob("step-*.parquet"))
        for names in pq.read_table(step)["record_ids"].to_pylist()
        for name in names
    ]
    assert sorted(dealt) == sorted(kept) == sorted(pq.read_table(run.work_list)["record_id"].to_pylist())
    manifest, steps = read_manifest(run.packed), read_metrics(run.metrics)
    assert manifest is not None
    assert [step["train/step"] for step in steps] == list(range(1, manifest["steps"] + 1))
    assert sum(step["train/tokens"] for step in steps) == manifest["tokens"]
    assert steps[-1]["train/epoch"] == 1.0


def kept_of(part: Path) -> list[str]:
    return [row["record_id"] for row in pq.read_table(part).to_pylist() if row["drop_reason"] is None]


def assert_summary_adds_up(run: RunDir) -> None:
    summary = summarise(make_config(run.root), run)
    records, training = summary["records"], summary["training"]
    assert records["written"] == summary["problems"]
    assert records["written"] == records["kept"] + records["failed"] + sum(records["dropped"].values())
    manifest = read_manifest(run.packed)
    assert manifest is not None
    assert (records["kept"], training["steps"]) == (manifest["examples"], manifest["steps"])


@pytest.mark.slow  # the next one by default
def test_records_are_trained_on_while_others_wait_for_the_training(ray_local: Any, tmp_path: Path) -> None:
    run = prepared(tmp_path)
    taken: list[float] = []
    report = run_live(make_config(tmp_path), run, on_step=lambda step: taken.append(step["train/step"]), engine_factory=engines(run))
    assert_every_kept_record_was_trained_once(run)
    assert len(taken) == report["steps"]


def test_a_killed_worker_and_a_killed_engine_cost_no_example(ray_local: Any, tmp_path: Path) -> None:
    run, killed = prepared(tmp_path), list[str]()
    threading.Thread(target=kill_one_of_each, args=(run, killed), daemon=True).start()
    report = run_live(make_config(tmp_path), run, engine_factory=engines(run))
    assert killed == ["TrainWorker", "MapWorker"]
    assert_every_kept_record_was_trained_once(run)
    write_json(run.training_report, report)
    assert_summary_adds_up(run)
    assert read_manifest(run.model) is not None


def kill_one_of_each(run: RunDir, killed: list[str]) -> None:
    """A worker of the training and an engine of the generation, once both are under way."""
    while not directory_of(run.checkpoints, HELD_UNTIL_STEP).exists():
        time.sleep(0.01)
    for name in ("TrainWorker", "MapWorker"):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it may be ending just now
                if name in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(name)
                    break


@pytest.mark.slow
def test_a_generation_that_fails_ends_the_training(ray_local: Any, tmp_path: Path) -> None:
    import ray

    run = prepared(tmp_path)
    with pytest.raises(ValueError, match=r"rows failed: 100\.0%"):
        run_live(make_config(tmp_path), run, engine_factory=FakeEngines(refuse_over=1))
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources().get("CPU"):
        assert time.monotonic() < deadline, "the training's workers still hold their CPUs"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_training_that_fails_ends_the_generation(ray_local: Any, tmp_path: Path) -> None:
    run, config = prepared(tmp_path), make_config(tmp_path)
    broken = config.student.model_copy(update={"model": str(tmp_path / "model")})
    (tmp_path / "model").mkdir()
    for file in Path(config.student.model).iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    started = time.monotonic()
    with pytest.raises(Exception, match=r"no file named model\.safetensors") as failed:
        run_live(config.model_copy(update={"student": broken}), run, engine_factory=engines(run))
    assert type(failed.value).__name__ == "WorkerGroupError"
    assert time.monotonic() - started < PATIENCE_S
    assert read_manifest(run.records) is None, "the late half of the records cannot have been made"


def test_a_training_asked_to_stop_while_it_waits_saves_its_last_step_and_goes_on_from_it(tmp_path: Path) -> None:
    trainings = Trainings.make(tmp_path)
    job = replace(trainings.job("waiting", streaming=True, num_epochs=1), packed=str(tmp_path / "stream"), stream="made so")
    steps = StreamDealt(job)
    threading.Thread(target=stop_when_waiting, args=(job, steps.num_dealt), daemon=True).start()
    run_ranks(2, tmp_path / "meet", train_all, [job])
    taken = read_metrics(Path(job.metrics))
    assert len(taken) == steps.num_dealt
    assert (directory_of(Path(job.checkpoints), steps.num_dealt) / "manifest.json").exists()
    assert not Path(job.export_to).exists()
    job.stop_flag.unlink()
    steps.finish()
    run_ranks(2, tmp_path / "meet-again", train_all, [job])
    assert read_metrics(Path(job.metrics))[: len(taken)] == taken
    assert len(read_metrics(Path(job.metrics))) > len(taken)
    assert read_manifest(Path(job.export_to)) is not None


class StreamDealt:
    """All steps but the last of a stream of random examples."""

    def __init__(self, job: TrainJob) -> None:
        examples = prepared_examples(random_examples(80))
        self._num_examples = len(examples)
        self._steps = StepWriter(job.training_config(), Path(job.packed), self._num_examples)
        self._steps.add(examples)
        self._steps.write(self._num_examples)
        self.num_dealt = len(list(Path(job.packed).glob("step-*.parquet")))

    def finish(self) -> None:
        self._steps.finish(self._num_examples, "made so")


def stop_when_waiting(job: TrainJob, num_steps: int) -> None:
    while not Path(job.metrics).exists() or len(read_metrics(Path(job.metrics))) < num_steps:
        time.sleep(0.05)
    time.sleep(0.5)  # so that the ranks are waiting
    job.stop_flag.parent.mkdir(exist_ok=True)
    job.stop_flag.touch()


@contextmanager
def started(run: RunDir) -> Iterator["subprocess.Popen[bytes]"]:
    """The run in a process of its own; whatever it has started is gone afterwards."""
    with (run.root / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "tests.chaos.live_job", str(run.root)], stdout=log, stderr=log)
        family: list[psutil.Process] = []
        try:
            yield process
            family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        finally:
            process.kill()
            process.wait()
            _, alive = psutil.wait_procs(family, timeout=5)  # Ray's processes follow the driver, some of them minutes later
            for member in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()


def wait_until_both_are_under_way(run: RunDir, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not directory_of(run.checkpoints, HELD_UNTIL_STEP).exists():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert read_manifest(run.records) is None


@pytest.mark.slow
@pytest.mark.parametrize("moment_s", [0.0, 1.0])
def test_a_driver_killed_while_both_run_is_started_again_and_trains_the_numbers_of_an_uninterrupted_training(
    tmp_path: Path, moment_s: float
) -> None:
    run = prepared(tmp_path)
    with started(run) as process:
        wait_until_both_are_under_way(run, process)
        time.sleep(moment_s)
        assert process.poll() is None
    before = {step: step.read_bytes() for step in run.packed.glob("step-*.parquet")}
    assert not run.model.exists()
    with started(run) as process:
        assert process.wait(PATIENCE_S) == 0
    assert {step: step.read_bytes() for step in before} == before
    assert_every_kept_record_was_trained_once(run)
    assert_summary_adds_up(run)

    uninterrupted = replace(
        TrainJob.of(make_config(tmp_path), run, stream=records_fingerprint(make_config(tmp_path))),
        checkpoints=str(tmp_path / "again"),
        metrics=str(tmp_path / "again.jsonl"),
        export_to=str(tmp_path / "again-model"),
    )
    run_ranks(2, tmp_path / "meet", train_all, [uninterrupted])
    losses = [[step["train/loss"] for step in read_metrics(path)] for path in (run.metrics, tmp_path / "again.jsonl")]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_sigterm_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    with started(run) as process:
        wait_until_both_are_under_way(run, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
    taken = read_metrics(run.metrics)
    assert read_manifest(run.records) is None
    assert (directory_of(run.checkpoints, len(taken)) / "manifest.json").exists()
    with started(run) as process:
        assert process.wait(PATIENCE_S) == 0
    assert_every_kept_record_was_trained_once(run)
    assert read_metrics(run.metrics)[: len(taken)] == taken
