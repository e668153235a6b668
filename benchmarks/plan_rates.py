"""What a plan says of an engine's speed beside what aiconfigurator 0.12 says, whose tables were measured on such GPUs.

`python -m benchmarks.plan_rates --aiconfigurator PATH [--json PATH]`: its executable, from an environment of its own.
Llama-3.1-8B on one GPU and 70B on four, 1,000 tokens in and out, requests that all run at once. Nothing is measured here.
"""

import argparse
import re
import statistics
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.figures import write_figures
from cgd_ray.config import RoleConfig
from cgd_ray.planning.models.facts import facts_of
from cgd_ray.planning.ranges import Range
from cgd_ray.planning.times.speeds import engine_rate
from cgd_ray.process.accelerators import gpu_of

TOKENS = 1000
"""Of each prompt, and of each answer."""
MODELS = {
    "8B": ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", 1),
    "70B": ("meta-llama/Meta-Llama-3.1-70B", "meta-llama/Llama-3.3-70B-Instruct", 4),
}
"""As aiconfigurator calls them, as the recipes do (the shapes are the same), and the GPUs of an engine."""
SYSTEMS = {"H100": "h100_sxm", "H200": "h200_sxm"}


def ours(model: str, gpus: int, gpu_name: str, requests: int) -> Range:
    """Generated tokens per second of one engine, prompts included."""
    gpu = gpu_of(gpu_name)
    assert gpu is not None, "the table has it"
    role = RoleConfig.model_validate({"model": model, "placement": {"gpus_per_replica": gpus}})
    rate = engine_rate(role, facts_of(model)[0], gpu, requests, 1.5 * TOKENS)
    tokens = Range.exactly(float(requests * TOKENS))
    return tokens / rate.seconds(tokens, tokens)


def theirs(executable: str, model: str, gpus: int, system: str, requests: int) -> float | None:
    """The same by aiconfigurator; None where it says that the requests do not fit."""
    command = [executable, "cli", "estimate", "--model-path", model, "--system", system, "--backend", "vllm", "--isl", str(TOKENS)]
    command += ["--osl", str(TOKENS), "--batch-size", str(requests), "--tp-size", str(gpus)]
    output = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"tokens/s:\s+([\d,.]+)", output.stdout)
    return None if found is None else float(found[1].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aiconfigurator", required=True, help="its executable")
    parser.add_argument("--json", type=Path)
    parsed = parser.parse_args()
    found: list[dict[str, Any]] = []
    for size, (named, known, gpus) in MODELS.items():
        for gpu, system in SYSTEMS.items():
            for requests in (16, 64, 128):
                planned, other = ours(known, gpus, gpu, requests), theirs(parsed.aiconfigurator, named, gpus, system, requests)
                row = {"model": size, "gpu": gpu, "requests": requests, "planned": planned.as_dict(), "aiconfigurator": other}
                found.append({**row, "ratio": None if other is None else planned.likely / other})
    ratios = [row["ratio"] for row in found if row["ratio"] is not None]
    within = [row for row in found if row["ratio"] and row["planned"]["low"] <= row["aiconfigurator"] <= row["planned"]["high"]]
    write_figures(
        {"rates": found, "median_ratio": statistics.median(ratios), "within_bounds": f"{len(within)} of {len(ratios)}"}, parsed.json
    )


if __name__ == "__main__":
    main()
