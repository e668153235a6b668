"""One GPU and ten minutes: does everything run there, and how fast? `make gpu-check`, or `make gpu-check ARGS=--reduced` without one.

Parts run one after the other, each in processes of its own that have LIMIT_S; what a part has found is written as soon as it is known, so a
machine that is taken away early has still yielded something. --reduced takes the same code paths on a CPU with the smallest shapes; the
kernels that only a GPU has are then replaced by what stands in for them there, and its figures say nothing about a GPU.
The result, one JSON object a line, is in --output; the exit code is 1 when a part failed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LIMIT_S = 120.0
GRACE_S = 10.0
"""For a part that is over its limit, to end what it has started."""
OUTPUT = Path("build/gpu_check.jsonl")


def parts(reduced: bool) -> Iterator[tuple[str, list[str]]]:
    """Names, and what to run after `python -m`, those first that later ones would be in vain without."""
    reduced_too = ["--reduced"] if reduced else []
    for name in ("imports", "attention", "engine"):
        yield name, ["benchmarks.gpu_parts", name, *reduced_too]
    shape = ["--shape", "small", "--steps", "2", "--context-length", "256", "--precision", "fp32"] if reduced else ["--steps", "6"]
    for stage in (2, 3):
        yield f"training, ZeRO-{stage}", ["benchmarks.training_gpu", "--zero-stage", str(stage), *shape]
    load = (
        ["--shape", "small", "--rows", "16", "--tokens", "40", "--places", "8", "--gpus", "0", "--engine", '{"dtype": "float32"}']
        if reduced
        else ["--rows", "1024"]
    )
    for contestant in ("bare", "pipeline"):
        yield f"generation, {contestant}", ["benchmarks.generation_gpu", "--contestants", contestant, *load]
    for name in ("engines", "demo"):  # two engines on half a GPU each; the whole job
        yield name, ["benchmarks.gpu_parts", name, *reduced_too]


def run_part(module: Sequence[str], limit_s: float = LIMIT_S) -> dict[str, Any]:
    """What a part found, or why it did not: {"outcome": "passed" | "failed" | "too slow", "seconds", and "figures" or "reason"}."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        figures, log = Path(directory) / "figures.json", Path(directory) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", *module, "--json", str(figures)], stdout=stream, stderr=stream, start_new_session=True
            )
            try:
                is_late, code = False, process.wait(limit_s)
            except subprocess.TimeoutExpired:
                is_late, code = True, _ended(process)
        found: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)}
        if code == 0 and figures.exists():
            return {"outcome": "passed", **found, "figures": json.loads(figures.read_text(encoding="utf-8"))}
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return {"outcome": "too slow" if is_late else "failed", **found, "reason": said[-20:]}


def _ended(process: "subprocess.Popen[bytes]") -> int:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def shown(name: str, result: dict[str, Any]) -> str:
    """A line for the terminal."""
    told = result.get("figures", {})
    figures = ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in _flat(told))
    return f"{name:<22} {result['outcome']:<8} {result['seconds']:>6.1f} s  {figures or ' '.join(result['reason'][-1:])}"


def _flat(figures: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from ((f"{key} {inner}", content) for inner, content in _flat(value))
        elif value is not None:
            yield key, value


def main() -> None:
    """Run the parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reduced", action="store_true", help="the smallest shapes, on the CPU")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to run, by the beginning of their names")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file for the results, %(default)s if left out")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    with arguments.output.open("w", encoding="utf-8") as output:
        for name, module in parts(arguments.reduced):
            if arguments.only and not name.startswith(tuple(arguments.only)):
                continue
            result = run_part(module)
            failed += result["outcome"] != "passed"
            output.write(json.dumps({"part": name, "reduced": arguments.reduced, **result}) + "\n")
            output.flush()
            print(shown(name, result), flush=True)
    print(f"{failed} parts failed; {arguments.output} has everything", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
