"""Ctrl-C in every stage of a run: the whole process group gets SIGINT, as from a terminal, and the run ends with 130 and one line.

The records to train on are those of tests/integration/run_of_0_1_0, so the training needs no engines.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cgd_ray.training.checkpoints.store import directory_of
from tests.processes import begun

CGD = [sys.executable, "-m", "cgd_ray.cli", "run", "jobs/configs/tinymath.yaml"]
RECORDS = Path("tests/integration/run_of_0_1_0/records").absolute()
LONG_TRAINING = [f"records={RECORDS}", "evaluation=null", "training.num_epochs=1000", "training.num_workers=1"]
PATIENCE_S = 300
GO_ON = "the same command (goes on|makes the others)"


def interrupted(command: Sequence[str], is_time: Callable[[], bool], log: Path, signals: int = 1) -> tuple[int, str]:
    """Exit code and standard error of a command whose process group gets SIGINT once it is time."""
    with log.open("wb") as out, log.with_suffix(".err").open("wb") as errors:
        process = begun(command, stdout=out, stderr=errors, start_new_session=True)
        deadline = time.monotonic() + PATIENCE_S
        while not is_time():
            assert process.poll() is None, log.read_text() + log.with_suffix(".err").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for _ in range(signals):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(1)
        return process.wait(60), log.with_suffix(".err").read_text()


def num_steps(run_dir: Path) -> int:
    metrics = run_dir / "training" / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


@pytest.mark.slow  # tests/unit/process has the codes and the words; by default a live training is asked to stop and goes on
def test_ctrl_c_while_training_saves_the_step_and_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = [*CGD, f"run_dir={run_dir}", *LONG_TRAINING]
    code, said = interrupted(command, lambda: num_steps(run_dir) >= 2, tmp_path / "log")
    assert code == 130, said
    found = re.fullmatch(rf"cgd: stopped after step (\d+), which is saved; {GO_ON} from there\n", said)
    assert found, said
    assert (directory_of(run_dir / "training" / "checkpoints", int(found[1])) / "manifest.json").exists()
    assert "Ctrl-C again ends it at once" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_second_ctrl_c_while_training_ends_it_at_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = [*CGD, f"run_dir={run_dir}", *LONG_TRAINING, "training.micro_batch_size=8"]
    code, said = interrupted(command, lambda: num_steps(run_dir) >= 2, tmp_path / "log", signals=2)
    assert code == 130, said
    assert re.search(GO_ON, said)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["start", "generate", "evaluate"])
def test_ctrl_c_in_another_stage_ends_it_with_one_line(stage: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    attempts = run_dir / "work" / "generation" / "in_flight"
    evaluated = run_dir / "evaluation" / "base"
    is_time = {
        "start": lambda: (run_dir / "logs" / "driver.log").exists(),
        "generate": lambda: any(file.stat().st_size > 60 for file in attempts.glob("*.txt")),
        "evaluate": lambda: any(file.stat().st_size > 60 for file in evaluated.glob("*/answers_state/in_flight/*.txt")),
    }[stage]
    settings = {"evaluate": [f"records={RECORDS}", "training.num_epochs=1"]}.get(stage, [])
    code, said = interrupted([*CGD, f"run_dir={run_dir}", *settings], is_time, tmp_path / "log")
    assert code == 130, said
    assert re.fullmatch(rf"cgd: .*{GO_ON}.*\n", said), said


@pytest.mark.slow
def test_ctrl_c_under_make_reaches_the_run_and_make_says_130(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"demo:\n\t{' '.join([*CGD, f'run_dir={run_dir}', *LONG_TRAINING])}\n")
    command = ["make", "-f", str(makefile), "demo"]
    code, said = interrupted(command, lambda: num_steps(run_dir) >= 2, tmp_path / "log")
    assert code == 2, "make's own code for a command that failed"
    assert "Error 130" in said or "Interrupt" in said
    assert re.search(GO_ON, said), said
