"""The stages of a run in their order: each is skipped when it is finished, and begun only when what it reads is there.

inputs -> generate -> select -> examples and packing -> train -> evaluate (stages.py). What can be refused is refused before any engine
starts. How to use: `execute("run", config)`, or "generate", "train", "evaluate" for a part.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from cgd_ray.cluster.capacity import check_cluster, check_cpus_here, check_memory
from cgd_ray.cluster.connection import connected, starts_here
from cgd_ray.cluster.hub import ROLES, fetch_weights
from cgd_ray.cluster.precision import as_begun, chosen, settle
from cgd_ray.cluster.preflight import check_key, check_libraries, check_models
from cgd_ray.cluster.storage import check_shared
from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir, read_json, read_manifest, write_json
from cgd_ray.generation.failed_rows import has_failed_rows
from cgd_ray.generation.pipeline import check_records
from cgd_ray.generation.teacher.check import check_teacher
from cgd_ray.problems.work_list import write_work_list
from cgd_ray.process.console import Screen, printing_lines
from cgd_ray.process.faults import failing, refusing
from cgd_ray.process.stopping import stopped_by_signals
from cgd_ray.reporting.page.page import refresh_report
from cgd_ray.reporting.summary import Summary, closing_rows, summarise
from cgd_ray.runs.contents import contents_of, with_models
from cgd_ray.runs.lease import leased
from cgd_ray.runs.planned import tell_plan
from cgd_ray.runs.remote.working_copy import working_copy
from cgd_ray.runs.stages import COMMANDS, EVALUATE_BASE, GENERATE, LIVE_RUN, PACK, SELECT, Session, Stage
from cgd_ray.runs.work_lists import LATER, check_given_records, make_work_lists


def execute(command: str, config: Config, retry_failed: bool = False, take_over: bool = False) -> None:
    """Run what is unfinished of a command's stages, then write summary.json, in any case, and print the closing table.

    A run directory on an object store is worked on in a copy on disk. With `retry_failed` rows of the generation that have failed are
    made again; with `take_over` a driver that is still at work on the run directory is made to end. Raises RefusedError for what is found
    wrong before the first stage, StageFailedError for a stage that could not finish.
    """
    with printing_lines() as say, working_copy(config, say, take_over) as here:
        summary, run = work_through(command, here, retry_failed, take_over), RunDir(here.run_dir)
        say(f"summary: {run.summary}")
        say(f"report:  {run.report}")
        if summary["training"] is not None:
            say(f"model:   {run.model}")


def work_through(command: str, config: Config, retry_failed: bool = False, take_over: bool = False) -> Summary:
    """As execute(), in a run directory on disk and without a word on what lies where; returns what summary.json holds."""
    run, named = RunDir(config.run_dir), config
    with refusing():
        config = with_models(config, _roles(command, config))
        if (recorded := run.recorded_config()) is not None:
            config, named = as_begun(config, recorded), as_begun(named, recorded)
        contents = contents_of(config)
        run.check(named, contents)
        retries_failed = retry_failed and has_failed_rows(config, run)
        notes: list[str] = []
        work_lists, decontamination = make_work_lists(command, config, run, notes)
    with Screen(run.logs / "driver.log") as screen, failing(run.root, run.logs), leased(run.lease, screen.say, take_over):
        session = Session(
            config=config,
            named=named,
            contents=contents,
            run=run,
            screen=screen,
            work_lists=work_lists,
            decontamination=decontamination,
            retries_failed=retries_failed,
        )
        with refusing():
            pending = _pending(command, session)
        for note in notes:
            screen.say(note)
        try:
            if pending:
                config = _work_off(pending, session)
        except BaseException:
            with suppress(Exception):  # what went wrong comes first
                write_json(run.summary, summarise(run.recorded_config() or config, run))
            raise
        summary = _publish(config, run, screen, changed=bool(pending))
        screen.table(f"cgd {command}", closing_rows(summary))
    return summary


def _roles(command: str, config: Config) -> tuple[str, ...]:
    """The models that a command may need."""
    return ("student",) if command in LATER or config.records is not None else ROLES


def _pending(command: str, session: Session) -> list[Stage]:
    """The command's unfinished stages. Raises ValueError when what the first of them reads is not there."""
    config, run = session.config, session.run
    if config.records is None:
        check_records(config, run.records, session.retries_failed)
    else:
        check_given_records(config, session.records)
    if command == "train" and read_manifest(run.selected) is None:
        raise ValueError(f"run_dir {run.root} holds no selected records to train on; run `cgd generate` with the same config first")
    if command == "evaluate" and config.evaluation is None:
        raise ValueError("evaluation is null, so there is nothing to evaluate; set evaluation.problems")
    if config.training.streaming and command in ("generate", "train"):
        raise ValueError(f"training.streaming is true, so `cgd {command}` has no stage of its own; use `cgd run`, or set it to false")
    stages = LIVE_RUN if config.training.streaming and command == "run" else COMMANDS[command]
    if command == "evaluate" and read_manifest(run.model) is None:
        session.screen.say(f"there is no trained model in {run.model} yet: only the untrained student is evaluated")
        stages = (EVALUATE_BASE,)
    remade = (GENERATE, SELECT, PACK) if session.retries_failed else ()
    pending = [stage for stage in stages if stage in remade or not stage.is_finished(session)]
    if any(stage.needs in ("generate", "live") for stage in pending):
        check_teacher(config, run)
    return pending


def _work_off(pending: Sequence[Stage], session: Session) -> Config:
    """Bring the stages to their end; returns the config with what was settled once the cluster was there."""
    config, run, started = session.config, session.run, time.monotonic()
    session.screen.say("checking the models and starting Ray")
    with refusing():
        check_libraries(config.training)
        phases = {stage.needs for stage in pending if stage.needs is not None}
        if starts_here(config.cluster):
            check_cpus_here(config, phases)  # at once: starting Ray and loading tokenizers take their time
        generates = not phases.isdisjoint({"generate", "live"})
        roles = ROLES if generates else ("student",)
        check_models(config, session.work_lists[run.work_list], roles)
        if generates and starts_here(config.cluster):
            check_key(config.teacher)
        with connected(config.cluster) as resources, stopped_by_signals(session.screen.say):
            for wait in (*check_cluster(config, resources, phases), *check_memory(config, resources, phases)):
                session.screen.say(wait)
            check_shared(run.root)
            fetch_weights(config, roles, session.screen.say)
            recorded = run.recorded_config()
            config = settle(config, resources) if recorded is None else as_begun(config, recorded)
            session = replace(session, config=config)
            session.screen.say(f"precision: {', '.join(f'{name} {kind}' for name, kind in chosen(config).items() if kind)}")
            if phases - {"evaluate"}:
                tell_plan(config, resources, session.work_lists, run, session.screen.say)
            run.claim(as_begun(session.named, config), session.contents)
            for path, work in session.work_lists.items():
                write_work_list(work, path)
            if session.decontamination is not None:
                write_json(run.decontamination, session.decontamination)
            _add_seconds(run, "start", started)
            for stage, then in zip(pending, [*pending[1:], None], strict=True):
                _work(stage, session)
                if then is not None and then.timed_as != stage.timed_as:
                    _publish(config, run, session.screen)
    return config


def _publish(config: Config, run: RunDir, screen: Screen, changed: bool = True) -> Summary:
    """Write what is known of the run by now, for programs and for people; a page that cannot be made costs no run."""
    summary = summarise(config, run)
    write_json(run.summary, summary)
    if changed or not run.report.exists():
        refresh_report(run, screen.say)
    return summary


def _work(stage: Stage, session: Session) -> None:
    started = time.monotonic()
    with failing(session.run.root, session.run.logs):
        try:
            stage.work(session)
        finally:
            _add_seconds(session.run, stage.timed_as, started)


def _add_seconds(run: RunDir, name: str, started: float) -> None:
    spent = read_json(run.seconds) or {}
    write_json(run.seconds, {**spent, name: spent.get(name, 0.0) + time.monotonic() - started})
