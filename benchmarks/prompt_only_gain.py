"""What training on critiques does to accuracy on the problem alone: arms and seeds side by side, on the same records.

`python -m benchmarks.prompt_only_gain --runs build/gain --json build/gain.json` (half an hour on two CPU cores with the embedded
models). The records are made once; each (arm, seed) is a run of its own. The seed changes the order of the training rows; generation and
evaluation are greedy. The interval is over seeds (mean and standard error), each accuracy's own interval is in its summary.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def run(config: Path, run_dir: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """One run of the whole job, or what is missing of it; returns its summary."""
    subprocess.run([sys.executable, "-m", "cgd_ray.cli", "run", str(config), f"run_dir={run_dir}", *overrides], check=True)
    summary: dict[str, Any] = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    return summary


def compare(config: Path, runs: Path, arms: Sequence[str], seeds: Sequence[int], overrides: Sequence[str]) -> dict[str, Any]:
    """Accuracy of the untrained student, and of each arm over the seeds."""
    first = runs / "records"
    subprocess.run([sys.executable, "-m", "cgd_ray.cli", "generate", str(config), f"run_dir={first}", *overrides], check=True)
    summaries = {
        arm: [
            run(
                config, runs / f"{arm}-{seed}", [*overrides, f"records={first / 'records'}", f"training.arm={arm}", f"training.seed={seed}"]
            )
            for seed in seeds
        ]
        for arm in arms
    }
    return {
        "config": str(config),
        "seeds": list(seeds),
        "num_problems": summaries[arms[0]][0]["evaluation"]["base"]["num_problems"],
        "before": summaries[arms[0]][0]["evaluation"]["base"]["problems"]["avg@k"],
        "after": {arm: _over_seeds(arm_summaries) for arm, arm_summaries in summaries.items()},
        "repair": summaries[arms[0]][0]["repair"],
        "versions": summaries[arms[0]][0]["versions"],
    }


def _over_seeds(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [summary["evaluation"]["trained"]["problems"]["avg@k"] for summary in summaries]
    spread = statistics.stdev(accuracies) / len(accuracies) ** 0.5 if len(accuracies) > 1 else None
    return {
        "pass@1": accuracies,
        "mean": statistics.fmean(accuracies),
        "standard_error": spread,
        "unboxed": [summary["evaluation"]["trained"]["unboxed"] for summary in summaries],
        "target_tokens": summaries[0]["training"]["target_tokens"],
    }


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/tinymath.yaml"))
    parser.add_argument("--runs", type=Path, required=True, help="directory that receives the runs")
    parser.add_argument("--arms", nargs="+", default=["cgd", "refined_only", "sft", "cft"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="further settings of every run")
    arguments = parser.parse_args()
    result = compare(arguments.config, arguments.runs, arguments.arms, arguments.seeds, arguments.overrides)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{'untrained':<14} {result['before']:.1%} of {result['num_problems']} problems\n")
    for arm, figures in result["after"].items():
        each = ", ".join(f"{accuracy:.1%}" for accuracy in figures["pass@1"])
        sys.stdout.write(f"{arm:<14} {figures['mean']:.1%} ({each})\n")


if __name__ == "__main__":
    main()
