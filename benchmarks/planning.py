"""How far a plan can be believed: what `cgd plan --like` says before each run beside what the run took, over settings of the training.

`python -m benchmarks.planning [--json PATH] [--only PART]`: one run of tinymath tells lengths and times on this machine; then, for each
setting, the plan is made first and the run follows. Printed: the ratio planned / measured of tokens, seconds and memory, worst and median.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import write_figures

CONFIG = "jobs/configs/tinymath.yaml"
COMMON = ("problems.limit=384", "evaluation.problems.limit=100", "training.precision=fp32")
SETTINGS: tuple[tuple[str, ...], ...] = (
    ("training.zero_stage=0",),
    ("training.zero_stage=1",),
    ("training.zero_stage=3",),
    ("training.num_workers=1",),
    ("training.num_workers=1", "training.zero_stage=3"),
    ("training.context_length=1024", "training.micro_batch_size=2", "training.global_batch_size=4"),
    ("training.context_length=256", "training.global_batch_size=16"),
    ("training.activation_checkpointing=true",),
    ("training.precision=bf16",),
    ("training.precision=bf16", "training.zero_stage=1"),
    ("training.num_epochs=4",),
    ("problems.limit=768", "training.num_epochs=1"),
)


def command(verb: str, run_dir: Path, setting: tuple[str, ...], *options: str) -> list[str]:
    return [sys.executable, "-m", "cgd_ray.cli", verb, CONFIG, f"run_dir={run_dir}", *COMMON, *setting, *options]


def compared(root: Path, reference: Path, setting: tuple[str, ...]) -> dict[str, Any]:
    """Plan, then run; planned / measured of each figure."""
    run_dir, planned = root / "run", root / "planned.json"
    subprocess.run(command("plan", run_dir, setting, "--like", str(reference), "--output", str(planned)), check=True, capture_output=True)
    started = time.monotonic()
    subprocess.run(command("run", run_dir, setting), check=True, capture_output=True)
    wall = time.monotonic() - started
    plan = json.loads(planned.read_text())
    phases = {phase["name"]: phase["seconds"]["likely"] for phase in plan["phases"]}
    found = json.loads((run_dir / "summary.json").read_text())
    seconds = found["seconds"]
    trained = found["planned"]
    ratios = {f"{name}_seconds": phases[name] / seconds[name] for name in phases}
    ratios["seconds"] = sum(phases.values()) / sum(seconds[name] for name in phases)
    ratios["rank_memory"] = trained["rank_gib"]["planned"] / trained["rank_gib"]["measured"]
    for role in ("student", "teacher"):
        ratios[f"{role}_tokens"] = plan["tokens"][role]["generated"]["likely"] / trained[f"{role}_tokens"]["measured"]
    for name in ("trained_tokens", "steps"):
        ratios[name] = plan[name]["likely"] / trained[name]["measured"]
    return {"setting": " ".join(setting), "wall_s": wall, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="settings that contain this")
    parsed = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        reference = Path(root) / "reference"
        subprocess.run(command("run", reference, ()), check=True, capture_output=True)
        for number, setting in enumerate(setting for setting in SETTINGS if parsed.only in " ".join(setting)):
            found.append(compared(Path(root) / str(number), reference, setting))
            sys.stderr.write(f"{ {name: value if isinstance(value, str) else round(value, 2) for name, value in found[-1].items()} }\n")
    names = [name for name in found[0] if name not in ("setting", "wall_s")]
    worst = {name: max((row[name] for row in found), key=lambda ratio: max(ratio, 1 / ratio)) for name in names}
    medians = {name: statistics.median(row[name] for row in found) for name in names}
    write_figures({"settings": found, "median": medians, "worst": worst}, parsed.json)


if __name__ == "__main__":
    main()
