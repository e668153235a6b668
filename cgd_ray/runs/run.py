"""The stages of a run in their order: each is skipped when it is finished, and begun only when what it reads is there.

inputs -> generate -> select -> examples and packing -> train -> evaluate. What can be refused is refused before any engine starts.
With training.streaming all up to train are one stage (live.py).
How to use: `execute("run", config)`, or "generate", "train", "evaluate" for a part.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cgd_ray.cluster.capacity import check_cluster, check_cpus_here, check_memory
from cgd_ray.cluster.connection import connected, starts_here
from cgd_ray.cluster.precision import as_begun, chosen, settle
from cgd_ray.cluster.preflight import check_key, check_libraries, check_models
from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.durable import durable_records
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.rundir import RunDir, read_json, read_manifest, write_json
from cgd_ray.evaluation.evaluate import Exam, evaluate
from cgd_ray.generation.failed_rows import has_failed_rows
from cgd_ray.generation.pipeline import check_records, generate
from cgd_ray.problems.decontamination import Benchmarks
from cgd_ray.problems.work_list import write_work_list
from cgd_ray.process.console import Screen
from cgd_ray.process.faults import failing, refusing
from cgd_ray.process.stopping import stopped_by_signals
from cgd_ray.reporting.displays import TrainingDisplay, generation_display, show_evaluation, show_live_step
from cgd_ray.reporting.summary import closing_rows, summarise
from cgd_ray.runs.live import run_live
from cgd_ray.runs.work_lists import check_given_records, make_work_lists
from cgd_ray.selection.selection import select_records
from cgd_ray.training.driver import train
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.examples.writing import make_examples
from cgd_ray.training.job import TrainJob


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a stage works with."""

    config: Config
    run: RunDir
    screen: Screen
    work_lists: Mapping[Path, pa.Table]
    """Each work list and where it is written."""
    decontamination: Mapping[str, Any] | None
    """What was found in the training problems; null when they were not compared with a benchmark."""
    retries_failed: bool = False
    """Whether rows that have failed are made again, and with them all that was made of the records."""

    @property
    def records(self) -> Path:
        """The records to train on: this run's own, or another's."""
        return self.run.records if self.config.records is None else Path(self.config.records)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a run."""

    timed_as: str
    """Name in summary.json's seconds."""
    needs: str | None
    """The phase whose engines or workers it starts; none where it works in this process alone."""
    is_finished: Callable[[Session], bool]
    work: Callable[[Session], None]


def execute(command: str, config: Config, retry_failed: bool = False) -> None:
    """Run what is unfinished of a command's stages, then write summary.json, in any case, and print the closing table.

    With `retry_failed` rows of the generation that have failed are made again. Raises RefusedError for what is found wrong before the
    first stage, StageFailedError for a stage that could not finish.
    """
    run = RunDir(config.run_dir)
    with refusing():
        if (recorded := run.recorded_config()) is not None:
            config = as_begun(config, recorded)
        run.check(config)
        retries_failed = retry_failed and has_failed_rows(config, run)
        notes: list[str] = []
        work_lists, decontamination = make_work_lists(command, config, run, notes)
    with Screen(run.logs / "driver.log") as screen, failing(run.root, run.logs):
        session = Session(
            config=config,
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
        summary = summarise(config, run)
        write_json(run.summary, summary)
        screen.table(f"cgd {command}", closing_rows(summary))
        screen.say(f"summary: {run.summary}")
        if summary["training"] is not None:
            screen.say(f"model:   {run.model}")


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
    return [stage for stage in stages if stage in remade or not stage.is_finished(session)]


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
        check_models(config, session.work_lists[run.work_list], ("student", "teacher") if generates else ("student",))
        if generates and starts_here(config.cluster):
            check_key(config.teacher)
        with connected(config.cluster) as resources, stopped_by_signals(session.screen.say):
            for wait in (*check_cluster(config, resources, phases), *check_memory(config, resources, phases)):
                session.screen.say(wait)
            if run.recorded_config() is None:
                config = settle(config, resources)
                session = replace(session, config=config)
            session.screen.say(f"precision: {', '.join(f'{name} {kind}' for name, kind in chosen(config).items() if kind)}")
            run.claim(config)
            for path, work in session.work_lists.items():
                write_work_list(work, path)
            if session.decontamination is not None:
                write_json(run.decontamination, session.decontamination)
            _add_seconds(run, "start", started)
            for stage in pending:
                _work(stage, session)
    return config


def _work(stage: Stage, session: Session) -> None:
    started = time.monotonic()
    with failing(session.run.root, session.run.logs):
        try:
            stage.work(session)
        finally:
            _add_seconds(session.run, stage.timed_as, started)


def _generate(session: Session) -> None:
    config = session.config
    total = session.work_lists[session.run.work_list].num_rows
    with session.screen.progress("generate", total, "records") as bar:
        display = generation_display(bar, config.teacher.api, session.run.spending)
        generate(config, session.run, display, retry_failed=session.retries_failed)


def _select(session: Session) -> None:
    config, run = session.config, session.run
    # this run's own records come from a work list that is clean already
    benchmarks = Benchmarks(config.problems.decontaminate) if config.records and config.problems.decontaminate else None
    with session.screen.progress("select", durable_records(session.records).num_rows, "records") as bar:
        select_records(config.selection, session.records, run.selected, bar.advance, benchmarks)


def _pack(session: Session) -> None:
    config, run = session.config, session.run
    manifest = read_manifest(run.selected)
    assert manifest is not None, "selection is the stage before"
    student, prompts = config.student, load_prompts(config.prompts)
    chat = Chat.of(student)
    if config.training.validation is not None:  # first, since the stage is finished when the training's rows are there
        make_examples(config.training, chat, prompts, run.selected, run.validation_examples, side="validation")
        pack(config.training.context_length, run.validation_examples, run.validation_packed)
    with session.screen.progress("prepare", manifest["written"], "records") as bar:
        make_examples(config.training, chat, prompts, run.selected, run.examples, bar.advance)
    pack(config.training.context_length, run.examples, run.packed)


def _train(session: Session) -> None:
    config, run = session.config, session.run
    packed = read_manifest(run.packed)
    assert packed is not None, "packing is the stage before"
    num_steps = -(-packed["rows"] // config.training.global_batch_size) * config.training.num_epochs
    with session.screen.progress("train", num_steps, "steps") as bar:
        display = TrainingDisplay(session.screen, bar)
        report = train(TrainJob.of(config, run), display.show_step, _exam_while_training(session), display.show_measurement)
    write_json(run.training_report, report)


def _exam_while_training(session: Session) -> Exam | None:
    """How checkpoints answer held-out problems; None where they do not."""
    config = session.config
    if config.answering_student is None:
        return None
    return Exam(
        student=config.answering_student,
        prompts=load_prompts(config.prompts),
        work_list=session.run.validation_work_list,
        grading_timeout_s=config.selection.grading_timeout_s,
    )


def _live(session: Session) -> None:
    config, run = session.config, session.run
    total = session.work_lists[run.work_list].num_rows
    with session.screen.progress("generate", total, "records") as made, session.screen.progress("train", total, "records") as trained:
        report = run_live(
            config,
            run,
            generation_display(made, config.teacher.api, run.spending),
            lambda step: show_live_step(trained, step, total),
        )
    write_json(run.training_report, report)


def _evaluate(session: Session, name: str, student: RoleConfig) -> None:
    total = session.work_lists[session.run.evaluation_work_list].num_rows
    with session.screen.progress(f"evaluate {name}", total, "answers") as bar:
        evaluate(
            session.config,
            student,
            name,
            session.run.evaluation_work_list,
            session.run,
            lambda counts: show_evaluation(bar, counts),
        )


def _trained(session: Session) -> RoleConfig:
    """The student after training, which holds its adapter in its weights."""
    return session.config.student.model_copy(update={"model": str(session.run.model), "adapter": None})


def _is_evaluated(session: Session, name: str) -> bool:
    return session.config.evaluation is None or read_manifest(session.run.evaluation(name)) is not None


GENERATE = Stage(
    timed_as="generate",
    needs="generate",
    is_finished=lambda session: session.config.records is not None or read_manifest(session.run.records) is not None,
    work=_generate,
)
SELECT = Stage(timed_as="generate", needs=None, is_finished=lambda session: read_manifest(session.run.selected) is not None, work=_select)
PACK = Stage(timed_as="train", needs=None, is_finished=lambda session: read_manifest(session.run.packed) is not None, work=_pack)
TRAIN = Stage(timed_as="train", needs="train", is_finished=lambda session: read_json(session.run.training_report) is not None, work=_train)
LIVE = Stage(timed_as="live", needs="live", is_finished=TRAIN.is_finished, work=_live)
EVALUATE_BASE = Stage(
    timed_as="evaluate",
    needs="evaluate",
    is_finished=lambda session: _is_evaluated(session, "base"),
    work=lambda session: _evaluate(session, "base", session.config.student),
)
EVALUATE_TRAINED = Stage(
    timed_as="evaluate",
    needs="evaluate",
    is_finished=lambda session: _is_evaluated(session, "trained"),
    work=lambda session: _evaluate(session, "trained", _trained(session)),
)
COMMANDS: dict[str, tuple[Stage, ...]] = {
    "run": (GENERATE, SELECT, PACK, TRAIN, EVALUATE_BASE, EVALUATE_TRAINED),
    "generate": (GENERATE, SELECT),
    "train": (PACK, TRAIN),
    "evaluate": (EVALUATE_BASE, EVALUATE_TRAINED),
}
LIVE_RUN = (LIVE, EVALUATE_BASE, EVALUATE_TRAINED)
"""What `cgd run` is with training.streaming."""


def _add_seconds(run: RunDir, name: str, started: float) -> None:
    spent = read_json(run.seconds) or {}
    write_json(run.seconds, {**spent, name: spent.get(name, 0.0) + time.monotonic() - started})
