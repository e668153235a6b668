"""What streaming gains: both roles at work at once, against passes that wait for each other, and against the shortest time there could be.

`python -m benchmarks.streaming --json build/streaming.json` (three minutes on two CPU cores). One student and one teacher engine, each with
the same number of places; a turn takes a lognormal time that is a function of its seed, so both ways wait for the very same turns. `staged`
is three dataflows, attempts, critiques and refinements, each over the Parquet of the one before. A time is from the start of the first turn
to the end of the last one, in each pass, so starting Ray's actors, which the passes do more often, is left out; the first turn waits until
all engines of the pass are there. No schedule takes less than the lower bound: the busier engine's turns by its places, or the longest row;
passes that wait for each other take at least the sum of both engines' times.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engines import SlowEngines
from benchmarks.pipeline_overhead import write_work_list
from cgd_ray.config import Config
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import TURNS, Turn
from cgd_ray.data.rundir import RunDir, manifest_parts
from cgd_ray.generation.dataflow import Dataflow
from cgd_ray.generation.pipeline import generate
from cgd_ray.generation.stages import AttemptStage, EngineStage, StageSpec, turn_seed
from cgd_ray.generation.teacher.stage import CritiqueRefineStage

NUM_CPUS = 2


class CritiqueStage(CritiqueRefineStage):
    """The first half of the teacher's work."""

    def _turns(self) -> Sequence[Turn]:
        return ("critique",)


class RefineStage(CritiqueRefineStage):
    """The second half."""

    def _turns(self) -> Sequence[Turn]:
        return ("refinement",)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What both ways have in common."""

    rows: int
    places: int
    batch_size: int
    rows_per_block: int
    engines: SlowEngines

    def config(self, root: Path) -> Config:
        """One engine a role."""
        placement = {"cpus_per_replica": 0.5, "requests_in_flight": self.places}
        student, teacher = (
            {"model": "nobody/slow", "sampling": {"max_tokens": 64, "seed": seed}, "placement": placement} for seed in (0, 1)
        )
        tree = {"run_dir": str(root), "problems": {"path": "unused"}, "student": student, "teacher": teacher}
        return Config.model_validate(
            {**tree, "generation": {"batch_size": self.batch_size, "rows_per_block": self.rows_per_block, "teacher_check": None}}
        )


def streaming_s(setting: Setting, root: Path) -> float:
    """Seconds of the project's own pipeline."""
    run, times = RunDir(root / "streaming"), root / "streaming_times"
    write_work_list(run.work_list, setting.rows)
    generate(setting.config(run.root), run, engine_factory=replace(setting.engines, times=times, num_engines=2))
    assert sum(pq.read_metadata(part).num_rows for part in manifest_parts(run.records)) == setting.rows
    return _seconds(times, num_turns=len(TURNS) * setting.rows)


def staged_s(setting: Setting, root: Path) -> dict[str, float]:
    """Seconds of each pass, where the next begins when the one before has ended."""
    config, work_list = setting.config(root), root / "staged" / "work_list.parquet"
    write_work_list(work_list, setting.rows)
    seconds: dict[str, float] = {}
    passes: list[tuple[type[EngineStage], Turn]] = [(AttemptStage, "attempt"), (CritiqueStage, "critique"), (RefineStage, "refinement")]
    for kind, stage in passes:
        directory = root / "staged" / stage
        flow = Dataflow(
            work_list=work_list,
            output=directory / "parts",
            state=directory / "state",
            batch_size=setting.batch_size,
            rows_per_file=setting.rows_per_block,
        )
        spec = StageSpec(
            role=config.student if stage == "attempt" else config.teacher,
            prompts=Prompts(),
            fingerprints={stage: "benchmark"},
            engine_factory=replace(setting.engines, times=directory / "times"),
            suspects=directory / "suspects",
        )
        flow.run([(kind, spec)])
        seconds[stage] = _seconds(directory / "times", num_turns=setting.rows)
        work_list = directory / "all.parquet"
        pq.write_table(pa.concat_tables([pq.read_table(part) for part in sorted(flow.output.glob("*.parquet"))]), work_list)
    return seconds


def lower_bound_s(setting: Setting, root: Path) -> dict[str, float]:
    """What no schedule can beat: each engine's turns by its places, and the longest row."""
    config = setting.config(root)
    path = root / "lower_bound.parquet"
    write_work_list(path, setting.rows)
    turns: dict[Turn, list[float]] = {}
    for stage in TURNS:
        seed = (config.student if stage == "attempt" else config.teacher).sampling.seed
        ids = pq.read_table(path, columns=["record_id"])["record_id"].to_pylist()
        turns[stage] = [setting.engines.latency_s(turn_seed(seed, record_id, stage)) for record_id in ids]
    return {
        "student": sum(turns["attempt"]) / setting.places,
        "teacher": (sum(turns["critique"]) + sum(turns["refinement"])) / setting.places,
        "longest_row": max(map(sum, zip(*turns.values(), strict=True))),
    }


def compare(setting: Setting) -> dict[str, Any]:
    """Both ways and the bound."""
    import ray

    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        bounds = lower_bound_s(setting, root)
        ray.init(address="local", num_cpus=NUM_CPUS, include_dashboard=False, log_to_driver=False)
        load_before = psutil.getloadavg()[0]
        streaming = streaming_s(setting, root)
        staged = staged_s(setting, root)
        ray.shutdown()
    return {
        "speedup_over_staged": sum(staged.values()) / streaming,
        "makespan_over_lower_bound": streaming / max(bounds.values()),
        "streaming_s": streaming,
        "staged_s": staged,
        "lower_bound_s": bounds,
        "staged_over_its_lower_bound": sum(staged.values()) / (bounds["student"] + bounds["teacher"]),
        "rows": setting.rows,
        "places": setting.places,
        "batch_size": setting.batch_size,
        "rows_per_block": setting.rows_per_block,
        "latency": {"median_s": setting.engines.median_s, "sigma": setting.engines.sigma},
        "hardware": {"cpus": psutil.cpu_count(), "ray_cpus": NUM_CPUS, "load_average_before": load_before},
        "versions": {"python": platform.python_version(), "ray": ray.__version__, "pyarrow": pa.__version__},
    }


def _seconds(times: Path, num_turns: int) -> float:
    """From the start of the first turn to the end of the last, over all engines."""
    lines = [line.split() for file in times.iterdir() for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == num_turns, f"{len(lines)} turns were made instead of {num_turns}: a row was retried or failed"
    return max(float(end) for _, end in lines) - min(float(start) for start, _ in lines)


def _table(result: dict[str, Any]) -> Sequence[str]:
    passes, bounds = result["staged_s"], result["lower_bound_s"]
    return [
        f"{'streaming':<28}{result['streaming_s']:>8.1f} s",
        f"{'staged':<28}{sum(passes.values()):>8.1f} s  ({', '.join(f'{name} {seconds:.1f}' for name, seconds in passes.items())})",
        f"{'lower bound':<28}{max(bounds.values()):>8.1f} s  ({', '.join(f'{name} {seconds:.1f}' for name, seconds in bounds.items())})",
        f"{'staged_over_its_lower_bound':<28}{result['staged_over_its_lower_bound']:>8.2f}",
        f"{'speedup_over_staged':<28}{result['speedup_over_staged']:>8.2f}",
        f"{'makespan_over_lower_bound':<28}{result['makespan_over_lower_bound']:>8.2f}",
    ]


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--places", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rows-per-block", type=int, default=32)
    parser.add_argument("--median-s", type=float, default=0.1, help="of a turn, before its place in the engine is free for the next")
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    setting = Setting(
        rows=arguments.rows,
        places=arguments.places,
        batch_size=arguments.batch_size,
        rows_per_block=arguments.rows_per_block,
        engines=SlowEngines(median_s=arguments.median_s, sigma=arguments.sigma, times=Path("set by each pass")),
    )
    result = compare(setting)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join(_table(result)) + "\n")


if __name__ == "__main__":
    main()
