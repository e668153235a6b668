"""Trackers: each step once, in its own files; what is not installed is refused by the name of the extra that brings it."""

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from cgd_ray.training.observe.metrics import MetricsLog, read_metrics
from cgd_ray.training.observe.trackers import start_trackers


def line(step: int, loss: float) -> dict[str, float]:
    return {"train/step": step, "train/loss": loss}


def log_interrupted(directory: Path, tracker: str) -> None:
    """Three steps, a kill, and from the checkpoint after the first step on again to the third."""
    for steps_done, losses in ((0, {1: 3.0, 2: 2.0, 3: 9.0}), (1, {2: 2.0, 3: 1.0})):
        log = MetricsLog(directory / "metrics.jsonl", steps_done, start_trackers([tracker], directory, "run-1", steps_done))
        for step, loss in losses.items():
            log.write(line(step, loss))
        log.close()
    assert read_metrics(directory / "metrics.jsonl") == [line(1, 3.0), line(2, 2.0), line(3, 1.0)]


def tensorboard_events(directory: Path) -> list[Event]:
    """Of all files in their order; a file is a row of (length, checksum, event, checksum)."""
    events = []
    for path in sorted(directory.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def test_tensorboard_gets_each_step_and_drops_what_was_lost_with_a_kill(tmp_path: Path) -> None:
    log_interrupted(tmp_path, "tensorboard")
    kept: dict[int, float] = {}
    for event in tensorboard_events(tmp_path / "tensorboard"):
        if event.HasField("session_log"):  # a restart: readers forget this step and all later ones
            kept = {step: loss for step, loss in kept.items() if step < event.step}
        for value in event.summary.value:
            if value.tag == "train/loss":
                kept[event.step] = value.simple_value
    assert kept == {1: 3.0, 2: 2.0, 3: 1.0}


def test_mlflow_goes_on_with_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log_interrupted(tmp_path, "mlflow")
    import mlflow

    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert (run.info.run_name, run.info.status, run.data.metrics["train/loss"]) == ("run-1", "FINISHED", 1.0)


def test_wandb_writes_its_files_into_the_trainings_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_interrupted(tmp_path, "wandb")
    assert list((tmp_path / "wandb").rglob("*.wandb"))
