"""What the stages of a run do, when each is finished, and in which order a command wants them.

With training.streaming all up to train are one stage (live.py).
How to use: `COMMANDS["run"]`, `stage.is_finished(session)`, `stage.work(session)`; run.py does so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.durable import durable_records
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.rundir import RunDir, read_json, read_manifest, write_json
from cgd_ray.evaluation.differences import trained_minus_base
from cgd_ray.evaluation.held_out import HeldOutExam
from cgd_ray.generation.pipeline import generate
from cgd_ray.problems.decontamination import Benchmarks
from cgd_ray.process.console import Screen
from cgd_ray.reporting.displays import TrainingDisplay, generation_display, show_live_step
from cgd_ray.runs.exams import answer_exam, exam_of
from cgd_ray.runs.live import run_live
from cgd_ray.selection.selection import select_records
from cgd_ray.training.driver import train
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.examples.writing import make_examples
from cgd_ray.training.job import TrainJob


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a stage works with."""

    config: Config
    """With directories of the cache in place of models of the hub."""
    named: Config
    """As it is written."""
    contents: Mapping[str, str]
    """What is behind its paths."""
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


def _generate(session: Session) -> None:
    config = session.config
    total = session.work_lists[session.run.work_list].num_rows
    with session.screen.progress("generate", total, "records") as bar:
        display = generation_display(bar, config.teacher.api, session.run.spending)
        generate(config, session.run, display, retry_failed=session.retries_failed, say=session.screen.say)


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
    training = config.training.spread_over(packed["rows"])
    with session.screen.progress("train", training.steps_in_epoch(packed["rows"]) * training.num_epochs, "steps") as bar:
        display = TrainingDisplay(session.screen, bar)
        job = TrainJob.of(config.model_copy(update={"training": training}), run)
        report = train(job, display.show_step, _exam_while_training(session), display.show_measurement)
    write_json(run.training_report, report)


def _exam_while_training(session: Session) -> HeldOutExam | None:
    """How checkpoints answer held-out problems; None where they do not."""
    config = session.config
    if config.answering_student is None:
        return None
    return HeldOutExam(
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
            say=session.screen.say,
        )
    write_json(run.training_report, report)


def _evaluate(session: Session, name: str, student: RoleConfig) -> None:
    answer_exam(exam_of(session.config, student, session.run), name, session.run.evaluation(name), session.screen)


def _evaluate_trained(session: Session) -> None:
    _evaluate(session, "trained", _trained(session))
    write_json(session.run.differences, trained_minus_base(session.run))


def _trained(session: Session) -> RoleConfig:
    """The student after training, which holds its adapter in its weights."""
    return session.config.student.model_copy(update={"model": str(session.run.model), "adapter": None})


def _is_evaluated(session: Session, name: str, student: RoleConfig) -> bool:
    if session.config.evaluation is None:
        return True
    directory, exam = session.run.evaluation(name), exam_of(session.config, student, session.run)
    if not Path(student.model).is_dir():  # it is not there yet, or has been put away since
        return exam.has_reports(directory)
    return exam.is_finished(directory)


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
    is_finished=lambda session: _is_evaluated(session, "base", session.config.student),
    work=lambda session: _evaluate(session, "base", session.config.student),
)
EVALUATE_TRAINED = Stage(
    timed_as="evaluate",
    needs="evaluate",
    is_finished=lambda session: _is_evaluated(session, "trained", _trained(session)),
    work=_evaluate_trained,
)
COMMANDS: dict[str, tuple[Stage, ...]] = {
    "run": (GENERATE, SELECT, PACK, TRAIN, EVALUATE_BASE, EVALUATE_TRAINED),
    "generate": (GENERATE, SELECT),
    "train": (PACK, TRAIN),
    "evaluate": (EVALUATE_BASE, EVALUATE_TRAINED),
}
LIVE_RUN = (LIVE, EVALUATE_BASE, EVALUATE_TRAINED)
"""What `cgd run` is with training.streaming."""
