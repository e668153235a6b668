"""How much of a refinement's prompt the teacher's engine finds in its prefix cache, and what that saves.

`python -m benchmarks.prefix_cache --json build/prefix_cache.json` (about three minutes on two idle CPU cores; no Ray). The embedded student
attempts problems, then the embedded teacher runs the pipeline's critique-and-refine stage on them once for each setting, every one in a
process of its own. Half of the rows go through the stage as in a run, where a refinement follows its critique at once: this gives the hit
rate. The other half are critiqued first and refined afterwards, so that the refinement pass can be timed by itself; CPU seconds, of which
there are no more when other processes want the cores too, are given beside wall seconds.

What a refinement can share is its critique's prompt and the critique's own tokens, except the last one, whose keys and values are never
computed. The cache keeps whole blocks: `shareable_in_blocks` is the same rounded down to the engine's block size.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.workload import TINYMATH, tinymath_prompts
from cgd_ray.config import RoleConfig
from cgd_ray.data.records import PROBLEM_SCHEMA, Turn
from cgd_ray.engines.real import start_vllm
from cgd_ray.generation.stages import AttemptStage, StageSpec
from cgd_ray.generation.teacher.stage import CritiqueRefineStage
from cgd_ray.problems.work_list import make_work_list

VARIANTS: dict[str, dict[str, Any]] = {"on": {}, "off": {"enable_prefix_caching": False}, "on, blocks of 128": {"block_size": 128}}
"""Name -> engine arguments of the teacher; no block_size: what cgd_ray/engines/vllm_engine.py sets."""
PLACES = 32
CACHE_BYTES = 512 * 2**20


def role(name: str, engine: Mapping[str, Any]) -> RoleConfig:
    """An embedded model as the pipeline would run it."""
    return RoleConfig.model_validate(
        {
            "model": str(TINYMATH / "models" / name),
            "context_length": 1024,
            "sampling": {"max_tokens": 192},
            # the refinement pass needs the keys and values of all rows, not only of those in flight
            "engine": {"kv_cache_memory_bytes": CACHE_BYTES, **engine},
            "placement": {"requests_in_flight": PLACES},
        }
    )


def spec(name: str, engine: Mapping[str, Any]) -> StageSpec:
    """What a stage is built from."""
    fingerprints: dict[Turn, str] = {"attempt": "benchmark", "critique": "benchmark", "refinement": "benchmark"}
    return StageSpec(
        role=role(name, engine),
        prompts=tinymath_prompts(),
        fingerprints=fingerprints,
        engine_factory=start_vllm,
    )


def make_attempts(count: int, out: Path) -> None:
    """The student's attempts at the first embedded problems, as Parquet."""
    lines = (TINYMATH / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    problems = pa.Table.from_pylist([{**json.loads(line), "error": None} for line in lines], schema=PROBLEM_SCHEMA)
    stage = AttemptStage(spec("student", {}))
    attempts = asyncio.run(stage(make_work_list(problems, num_samples=1)))
    stage.close()
    pq.write_table(attempts, out)


def critique_and_refine(attempts: Path, engine: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one setting."""
    table = pq.read_table(attempts)
    half = table.num_rows // 2
    stage = CritiqueRefineStage(spec("teacher", engine))
    warm_up = asyncio.run(stage(table.slice(0, 1)))  # makes what is made on first use; its row is not counted
    streamed, stage_s, stage_cpu_s = _timed(stage, table.slice(1, half - 1))
    critiqued, _, _ = _timed(_CritiqueOnly(stage), table.slice(half))
    refined, pass_s, pass_cpu_s = _timed(stage, critiqued)
    block_size = stage.engine._engine.vllm_config.cache_config.block_size  # type: ignore[attr-defined]
    stage.close()
    assert not any(part["error"].null_count < part.num_rows for part in (warm_up, streamed, refined))
    return {
        "block_size": block_size,
        "rows": streamed.num_rows,
        **_sharing(streamed.to_pylist(), block_size),
        "stage_s": stage_s,
        "stage_cpu_s": stage_cpu_s,
        "refinement_pass_s": pass_s,
        "refinement_pass_cpu_s": pass_cpu_s,
        "refinement_pass_tokens": sum(refined["refinement_tokens"].drop_null().to_pylist()),
    }


class _CritiqueOnly(CritiqueRefineStage):
    """The stage's first call alone, in another stage's engine."""

    def __init__(self, stage: CritiqueRefineStage) -> None:
        self.__dict__.update(stage.__dict__)

    def _turns(self) -> Sequence[Turn]:
        return ("critique",)


def _timed(stage: Any, table: pa.Table) -> tuple[pa.Table, float, float]:
    """(rows, wall seconds, CPU seconds of this process)."""
    wall, cpu = time.monotonic(), time.process_time()
    done = asyncio.run(stage(table))
    return done, time.monotonic() - wall, time.process_time() - cpu


def _sharing(rows: Sequence[Mapping[str, Any]], block_size: int) -> dict[str, int]:
    rows = [row for row in rows if row["refinement"] is not None]  # a cut critique has none
    shareable = [row["critique_prompt_tokens"] + row["critique_tokens"] - 1 for row in rows]
    return {
        "prompt_tokens": sum(row["refinement_prompt_tokens"] for row in rows),
        "shareable": sum(shareable),
        "shareable_in_blocks": sum(tokens // block_size * block_size for tokens in shareable),
        "cached": sum(row["refinement_cached_tokens"] for row in rows),
    }


def compare(count: int) -> dict[str, Any]:
    """All settings, one after the other."""
    with tempfile.TemporaryDirectory() as directory:
        attempts = Path(directory) / "attempts.parquet"
        _in_process("attempts", str(count), str(attempts))
        variants = {name: json.loads(_in_process("teacher", json.dumps(engine), str(attempts))) for name, engine in VARIANTS.items()}
    on, off = variants["on"], variants["off"]
    return {
        "hit_rate": on["cached"] / on["shareable"],
        "hit_rate_in_blocks": on["cached"] / on["shareable_in_blocks"],
        "speedup": off["refinement_pass_s"] / on["refinement_pass_s"],
        "speedup_cpu": off["refinement_pass_cpu_s"] / on["refinement_pass_cpu_s"],
        "variants": variants,
    }


def _in_process(*arguments: str) -> str:
    """The last line that one part prints, run by itself."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.prefix_cache", "--part", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{arguments[0]} failed: {done.stderr[-3000:]}")
    return done.stdout.strip().rpartition("\n")[2]


def _table(result: Mapping[str, Any]) -> str:
    lines = [f"{'prefix cache':<18} {'block':>5} {'cached':>8} {'shareable':>10} {'in blocks':>10} {'refining s':>11} {'CPU s':>6}"]
    for name, figures in result["variants"].items():
        lines.append(
            f"{name:<18} {figures['block_size']:>5} {figures['cached']:>8,} {figures['shareable']:>10,} "
            f"{figures['shareable_in_blocks']:>10,} {figures['refinement_pass_s']:>11.2f} {figures['refinement_pass_cpu_s']:>6.2f}"
        )
    lines.append(
        f"hit rate {result['hit_rate']:.1%} of shareable tokens, {result['hit_rate_in_blocks']:.1%} of those in whole blocks; "
        f"refinement pass {result['speedup']:.2f} times as fast ({result['speedup_cpu']:.2f} in CPU time)"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024, help="1,024 are all embedded problems")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        part, what, path = arguments.part
        if part == "attempts":
            make_attempts(int(what), Path(path))
        else:
            sys.stdout.write(json.dumps(critique_and_refine(Path(path), json.loads(what))) + "\n")
        return
    result = compare(arguments.rows)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(_table(result))


if __name__ == "__main__":
    main()
