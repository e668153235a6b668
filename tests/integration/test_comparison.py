"""`cgd compare` for real: the embedded models, vLLM, DeepSpeed, runs side by side on one Ray; and killed again and again."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.processes import begun

QUICK = "jobs/configs/compare_tinymath_quick.yaml"
NUM_PROBLEMS = 16
SMALL = (f"settings.problems.limit={NUM_PROBLEMS}", f"settings.evaluation={{problems: {{limit: {NUM_PROBLEMS}}}}}", "seeds=[0]")
CELLS = ("sft-seed0-lr3e-4", "cgd-seed0-lr3e-4")
NUM_KILLS = 10
PATIENCE_S = 1200


def command(run_dir: Path) -> list[str]:
    return [sys.executable, "-m", "cgd_ray.cli", "compare", QUICK, f"run_dir={run_dir}", "arms=[base, sft, cgd]", *SMALL]


def result(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "comparison.json").read_text())
    return found


def finished(run_dir: Path) -> dict[str, int]:
    """Evaluations of trained students that are there, each with when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in run_dir.glob("cells/*/evaluation/trained/*/manifest.json")}


@pytest.mark.slow  # tests/unit/comparison has the order, the budget and the moments of a kill, with stand-ins for the runs
def test_a_comparison_makes_records_once_and_ends_with_table_and_report(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path / "run"), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing under" in done.stdout.splitlines()[0]
    rows = result(tmp_path / "run")["rows"]
    assert [(row["arm"], row["num_problems"]) for row in rows] == [(arm, NUM_PROBLEMS) for arm in ("base", "sft", "cgd")]
    assert rows[2]["teacher_tokens"] > rows[1]["teacher_tokens"] == 0
    assert {path.name for path in (tmp_path / "run" / "cells").iterdir()} == set(CELLS)
    for cell in CELLS:
        assert not (tmp_path / "run" / "cells" / cell / "records").exists()
        assert (tmp_path / "run" / "cells" / cell / "evaluation" / "base").is_symlink()
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_killed_at_ten_moments_and_run_again_it_repeats_no_finished_cell(tmp_path: Path) -> None:
    run_dir, moments = tmp_path / "run", random.Random(0)
    before: dict[str, int] = {}
    for number in range(NUM_KILLS):
        with (tmp_path / f"{number}.log").open("wb") as log:
            process = begun(command(run_dir), stdout=log, stderr=log)
            time.sleep(moments.uniform(5, 60))
            parent = psutil.Process(process.pid)
            children = parent.children(recursive=True)
            for victim in [parent, *(children if number % 2 else [])]:  # with its runs, and without them
                victim.send_signal(signal.SIGKILL) if victim.is_running() else None
            process.wait()
        now = finished(run_dir)
        assert before.items() <= now.items(), "a finished cell was made again"
        before = now
    done = subprocess.run(command(run_dir), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert before.items() <= finished(run_dir).items()
    assert len(result(run_dir)["rows"]) == 3
