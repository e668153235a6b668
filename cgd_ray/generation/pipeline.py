"""The generation of a run: attempts by the student, critiques and refinements by the teacher, written as Parquet records.

Both pools work at the same time and rows stream through them; a killed run, started again, makes what is missing. A row's failure is
its `error` column. Ray must be initialised by the caller.
How to use: `manifest = generate(config, run, on_progress)`; for one model's prompt-only answers `run_attempts(role, prompts, ...)`.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cgd_ray.config import Config, CutAttempts, GenerationConfig, RoleConfig
from cgd_ray.data.durable import BEGUN
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.reasons import FailureLimit
from cgd_ray.data.records import RECORDS_VERSION, Turn, short_hash
from cgd_ray.data.rundir import RunDir, read_json, read_manifest, write_json, write_manifest
from cgd_ray.engines.engine import EngineFactory
from cgd_ray.engines.real import RealEngines, start_vllm
from cgd_ray.generation.dataflow import Dataflow, Written, counted
from cgd_ray.generation.draining import end_run
from cgd_ray.generation.failed_rows import LEDGER, give_another_try, take_out, with_reused_before
from cgd_ray.generation.fingerprints import attempt_fingerprint, turn_fingerprints
from cgd_ray.generation.progress import COUNTS, ENGINE_MS, ROWS, UNUSABLE, CountSender, ProgressFn, failed_before, watched
from cgd_ray.generation.reuse import Reused, take_over
from cgd_ray.generation.stages import AttemptStage, EngineStage, StageSpec
from cgd_ray.generation.suspects import SUSPECTS, begin_anew
from cgd_ray.generation.teacher.check import RowSender, TeacherCheck
from cgd_ray.generation.teacher.stage import CritiqueRefineStage
from cgd_ray.process.stopping import StoppedError, draining_on_signals

STOP_FLAG = "stop"


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What one production consists of, apart from where it goes."""

    stages: Sequence[tuple[type[EngineStage], RoleConfig]]
    prompts: Prompts
    fingerprints: Mapping[Turn, str]
    engine_factory: EngineFactory
    refine_attempts: int = 1
    direct: bool = False
    structured_verdict: bool = False
    cut_attempts: CutAttempts = "use"

    def spec(self, role: RoleConfig, state: Path, report: CountSender, sample: RowSender | None) -> StageSpec:
        """What one stage's actors are built from."""
        return StageSpec(
            role=role,
            prompts=self.prompts,
            fingerprints=self.fingerprints,
            engine_factory=self.engine_factory,
            refine_attempts=self.refine_attempts,
            direct=self.direct,
            structured_verdict=self.structured_verdict,
            cut_attempts=self.cut_attempts,
            suspects=state / SUSPECTS,
            stop_flag=state / STOP_FLAG,
            report=report,
            sample=sample,
        )


def generate(
    config: Config,
    run: RunDir,
    on_progress: ProgressFn | None = None,
    engine_factory: EngineFactory | None = None,
    retry_failed: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Make the records of `run.work_list` (WORK_SCHEMA) in `run.records`, or what is missing of them, and return the manifest.

    `on_progress` gets the counts of generation/progress.py from another thread: turns, rows, failures, tokens; `say` gets what the teacher
    check has found. With `retry_failed` rows that failed before are made again, also those of finished records, where
    failed_rows.has_failed_rows() allows it. Raises ValueError when the directory holds records of other models, prompts or sampling, and
    when an engine had to end the run, more rows failed than `generation.max_failed_fraction`, or the teacher failed its check, which can
    be resumed. Raises StoppedError when SIGTERM ended it early.
    """
    plan = _Plan(
        stages=[(AttemptStage, config.student), (CritiqueRefineStage, config.teacher)],
        prompts=load_prompts(config.prompts),
        fingerprints=turn_fingerprints(config),
        engine_factory=engine_factory or RealEngines(spending=run.spending),
        refine_attempts=config.generation.refine_attempts,
        direct=config.wants_direct,
        structured_verdict=config.generation.structured_verdict,
        cut_attempts=config.selection.cut_attempts,
    )
    with_reused = run.generation_state / "prefilled.parquet"
    reuses = bool(config.generation.reuse) or with_reused.exists()
    flow = Dataflow(
        work_list=run.work_list,
        output=run.records,
        state=run.generation_state,
        with_reused=with_reused if reuses else None,
        batch_size=config.generation.batch_size,
        rows_per_file=config.generation.rows_per_block,
    )
    if retry_failed:
        check_records(config, run.records, retries_failed=True)
        give_another_try(run, flow)
    take_out(flow)
    reused: Reused = {}
    if reuses and read_manifest(run.records) is None:
        sources = [Path(source) for source in config.generation.reuse]
        graded = plan.refine_attempts > 1
        reused = take_over(run.work_list, sources, plan.fingerprints, with_reused, flow.finished_ids(), refines_by_grade=graded)
    reused = with_reused_before(reused, flow.state)
    limit = FailureLimit(fraction=config.generation.max_failed_fraction, records=run.records)
    is_checked = config.generation.teacher_check is not None
    check = TeacherCheck(config, run, pq.read_metadata(run.work_list).num_rows, say) if is_checked else None
    manifest = _produce(plan, flow, on_progress, reused, limit, check)
    limit.check(manifest["rows"], manifest["failed"], manifest["errors"])
    return manifest


def run_attempts(
    role: RoleConfig,
    prompts: Prompts,
    work_list: Path,
    out: Path,
    on_progress: ProgressFn | None,
    engine_factory: EngineFactory = start_vllm,
    stage: type[AttemptStage] = AttemptStage,
) -> None:
    """Answer a work list (WORK_SCHEMA) with one model, the problem alone, into Parquet parts with a manifest in `out`.

    Another `stage` may ask other things than the problem alone. Columns: the work list's and the attempt's.
    Raises ValueError when `out` holds answers of another model, prompt or sampling.
    """
    defaults = GenerationConfig()
    plan = _Plan(
        stages=[(stage, role)],
        prompts=prompts,
        fingerprints={"attempt": attempt_fingerprint(role, prompts)},
        engine_factory=engine_factory,
    )
    flow = Dataflow(
        work_list=work_list,
        output=out,
        state=out.with_name(f"{out.name}_state"),
        batch_size=defaults.batch_size,
        rows_per_file=defaults.rows_per_block,
    )
    _produce(plan, flow, on_progress, reused={})


def _produce(
    plan: _Plan,
    flow: Dataflow,
    on_progress: ProgressFn | None,
    reused: Reused,
    limit: FailureLimit | None = None,
    check: TeacherCheck | None = None,
) -> dict[str, Any]:
    """Run what is missing, check that every row is there once, and publish the manifest; a finished output is returned as it is."""
    fingerprint = _fingerprint(plan.fingerprints)
    manifest = read_manifest(flow.output)
    if manifest is not None:
        _check_fingerprint(flow.output, manifest["fingerprint"], fingerprint)
        return manifest
    begun, ledger, stop_flag = flow.state / BEGUN, flow.state / LEDGER, flow.state / STOP_FLAG
    if (theirs := read_json(begun)) is not None:
        _check_fingerprint(flow.output, theirs["fingerprint"], fingerprint)
    write_json(begun, {"fingerprint": fingerprint, "version": RECORDS_VERSION})
    stop_flag.unlink(missing_ok=True)
    begin_anew(flow.state / SUSPECTS)
    flow.drop_uncommitted()
    started = time.monotonic()
    before, total = flow.written(list(plan.fingerprints)), pq.read_metadata(flow.work_list).num_rows
    if limit is not None:
        limit.check(total, before.errors.total(), before.errors.most_common())
    if check is not None:
        check.begin(flow.finished_parts())
    start = {**_counts_before(plan, before, reused), **failed_before(before.errors), "tokens": 0}

    def look(counts: dict[str, int]) -> None:
        if on_progress is not None:
            on_progress(counts)
        if limit is not None and counts["failed"] > limit.fraction * total and not stop_flag.exists():
            _end_if_exceeded(limit, total, flow, stop_flag)

    most_rows = 0 if check is None else check.num_wanted
    with (
        draining_on_signals(stop_flag),
        watched(start, look, ledger, most_rows) as report,
        nullcontext() if check is None else check.watching(report, stop_flag) as sample,
    ):
        flow.run([(stage, plan.spec(role, flow.state, report, sample)) for stage, role in plan.stages])
    parts = sorted(flow.output.glob("*.parquet"))
    _check_stopped(flow, stop_flag)
    details = {
        **counted(parts, flow.work_list, list(plan.fingerprints)),
        "resumed": before.rows,
        "reused": dict(reused),
        "seconds": time.monotonic() - started,
        "engine_seconds": _engine_seconds(ledger, plan.stages),
        "teacher_check": None if check is None else check.finish(parts).as_dict(),
    }
    write_manifest(flow.output, fingerprint, parts, {"version": RECORDS_VERSION, **details, "fingerprints": dict(plan.fingerprints)})
    shutil.rmtree(flow.state)
    manifest = read_manifest(flow.output)
    assert manifest is not None, "it has just been written"
    return manifest


def _counts_before(plan: _Plan, before: Written, reused: Reused) -> dict[str, int]:
    """The counts that a run begins with: what a former run has written, or what other runs have made of it."""
    made = {COUNTS[turn]: max(count, reused[turn]["rows"] if turn in reused else 0) for turn, count in before.made.items()}
    return {**made, **{f"{stage.role}{ROWS}": before.rows for stage, _ in plan.stages}, UNUSABLE: before.unusable}


def _end_if_exceeded(limit: FailureLimit, total: int, flow: Dataflow, stop_flag: Path) -> None:
    """End the run by what is durably written: the live counts know a row twice that was repeated after a fault."""
    errors = flow.written([]).errors
    try:
        limit.check(total, errors.total(), errors.most_common())
    except ValueError as error:
        end_run(stop_flag, error)


def _check_stopped(flow: Dataflow, stop_flag: Path) -> None:
    """Raise StoppedError when SIGTERM, ValueError when an engine ended the run before all rows were finished."""
    if not stop_flag.exists():
        return
    finished, total = flow.num_finished(), pq.read_metadata(flow.work_list).num_rows
    if finished == total:
        return
    if reason := stop_flag.read_text(encoding="utf-8"):
        raise ValueError(reason)
    raise StoppedError(f"stopped with {finished:,} of {total:,} rows finished; the same command makes the others")


def _engine_seconds(ledger: Path, stages: Sequence[tuple[type[EngineStage], RoleConfig]]) -> dict[str, float]:
    """How long the engines of each role have existed, over all runs of the directory; times the GPUs of one engine: GPU-seconds."""
    spent = read_json(ledger) or {}
    return {stage.role: spent.get(f"{stage.role}{ENGINE_MS}", 0) / 1000 for stage, _ in stages}


def check_records(config: Config, records: Path, retries_failed: bool = False) -> None:
    """Raise ValueError when finished records were made by other models, prompts or sampling, or when too many of them failed for good."""
    manifest = read_manifest(records)
    if manifest is not None:
        _check_fingerprint(records, manifest["fingerprint"], records_fingerprint(config))
    if manifest is not None and not retries_failed:
        limit = FailureLimit(fraction=config.generation.max_failed_fraction, records=records)
        limit.check(manifest["rows"], manifest["failed"], manifest["errors"])


def records_fingerprint(config: Config) -> str:
    """Names everything that makes the records of a run what they are, but for the problems."""
    return _fingerprint(turn_fingerprints(config))


def _fingerprint(fingerprints: Mapping[Turn, str]) -> str:
    return short_hash(json.dumps(fingerprints))


def _check_fingerprint(output: Path, theirs: str, ours: str) -> None:
    if theirs != ours:
        raise ValueError(
            f"{output} was made by other models, prompts or sampling (fingerprint {theirs}, now {ours}); choose another run_dir, where "
            f"generation.reuse=[{output}] keeps what is still the same"
        )
