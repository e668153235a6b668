"""Evaluates any model by itself: a directory, a name on the hub, or an endpoint, in the place of a run's student.

It is asked what a config's `evaluation` asks, with the config's wording, and its answers go into RUN_DIR/evaluation/NAME, beside those of
the run's own models if there is a run. Nothing else of the run directory is needed or changed.
How to use: `evaluate_model(config, role_of_model(config, "org/model"), "model")`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from cgd_ray.cluster.capacity import check_cluster, check_cpus_here
from cgd_ray.cluster.connection import connected, starts_here
from cgd_ray.cluster.hub import fetch_weights, pinned
from cgd_ray.cluster.precision import as_begun, settle
from cgd_ray.cluster.preflight import check_key_of, check_model
from cgd_ray.cluster.storage import check_shared
from cgd_ray.config import Config, RoleConfig, parse_settings
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.rundir import RunDir, write_json
from cgd_ray.problems.work_list import write_work_list
from cgd_ray.process.console import Screen, printing_lines
from cgd_ray.process.faults import failing, refusing
from cgd_ray.process.stopping import stopped_by_signals
from cgd_ray.reporting.summary import evaluation_rows, summarise
from cgd_ray.runs.exams import answer_exam, exam_of
from cgd_ray.runs.lease import leased
from cgd_ray.runs.remote.working_copy import working_copy
from cgd_ray.runs.work_lists import make_evaluation_lists

OWN = ("base", "trained")
"""Names that a run gives to its own models."""
PHASE = frozenset({"evaluate"})


def role_of_model(config: Config, model: str) -> RoleConfig:
    """A model directory or a name on the hub in the student's place, with the student's context, engine and placement."""
    place = str(Path(model).absolute()) if Path(model).exists() else model
    return config.student.model_copy(update={"model": place, "revision": None, "adapter": None})


def role_of_endpoint(config: Config, base_url: str, served_name: str, key_variable: str | None) -> RoleConfig:
    """A model at an OpenAI-compatible endpoint. Raises ValueError, one line, for what is no address or no variable's name."""
    if config.evaluation is not None and config.evaluation.sampling.extra:
        extra = dict(config.evaluation.sampling.extra)
        raise ValueError(f"evaluation.sampling.extra is {extra}, which is vLLM's, and the model is at an endpoint; set it to {{}}")
    settings = {"model": served_name, "api.base_url": base_url, "api.key_variable": key_variable}
    return parse_settings(RoleConfig, [f"{name}={json.dumps(value)}" for name, value in settings.items()])


def name_of(model: str) -> str:
    """A name for a model's answers, from the last part of what it is called."""
    return re.sub(r"[^\w.-]+", "-", model.rstrip("/").rpartition("/")[2]) or "model"


def evaluate_model(config: Config, role: RoleConfig, name: str, take_over: bool = False) -> None:
    """Answer and grade what is missing in RUN_DIR/evaluation/NAME and print what came out.

    Raises RefusedError for what is found wrong before the model is asked, also when answers of another model have the name, and
    StageFailedError when it could not finish, in which case the same command goes on.
    """
    with printing_lines() as say, working_copy(config, say, take_over) as here:
        _evaluate_model(here, role, name, take_over)


def _evaluate_model(config: Config, role: RoleConfig, name: str, take_over: bool) -> None:
    run, notes = RunDir(config.run_dir), list[str]()
    recorded = run.recorded_config()
    with refusing():
        if re.fullmatch(r"[\w-][\w.-]*", name) is None or name in OWN:
            raise ValueError(f"name is {name!r}; give letters, digits, _, - and dots, but not {' or '.join(OWN)}, which are the run's own")
        if (evaluation := config.evaluation) is None:
            raise ValueError("evaluation is null, so there is nothing to ask; set evaluation.problems or evaluation.benchmarks")
        config = pinned(config.model_copy(update={"student": role}), ("student",), {})
        if recorded is not None and role.api is None:
            config = as_begun(config, recorded)  # in the precision of the run's own models
        run.check_place()
        before = evaluation if recorded is None or recorded.evaluation is None else recorded.evaluation
        work_lists = make_evaluation_lists("evaluate", evaluation, before, run, notes)
    with Screen(run.logs / "driver.log") as screen, failing(run.root, run.logs), leased(run.lease, screen.say, take_over):
        for note in notes:
            screen.say(note)
        _ask(config, name, run, screen, work_lists)
        if recorded is not None and run.work_list.exists():
            write_json(run.summary, summarise(recorded, run))


def _ask(config: Config, name: str, run: RunDir, screen: Screen, work_lists: Mapping[Path, pa.Table]) -> None:
    """With the model in the student's place: check it, start Ray, have it answer."""
    role, prompts = config.student, load_prompts(config.prompts)
    screen.say("checking the model and starting Ray")
    with refusing():
        if role.api is None:
            shortest = min((question for work in work_lists.values() for question in work["question"].to_pylist()), key=len)
            check_model("student", role, prompts.solve_messages(shortest, prompts.student_system))
        if starts_here(config.cluster):
            check_cpus_here(config, PHASE)
            check_key_of(role, "key_variable")
        with connected(config.cluster) as resources, stopped_by_signals(screen.say):
            for wait in check_cluster(config, resources, PHASE):
                screen.say(wait)
            check_shared(run.root)
            fetch_weights(config, ("student",), screen.say)
            config = settle(config, resources)
            for path, work in work_lists.items():
                write_work_list(work, path)
            exam = exam_of(config, config.student, run)
            exam.is_finished(run.evaluation(name))  # refused here where others have its name
            with failing(run.root, run.logs):
                reports = answer_exam(exam, name, run.evaluation(name), screen)
    screen.table("cgd evaluate", [{"benchmark": benchmark, "result": text} for benchmark, text in evaluation_rows({name: reports})])
    screen.say(f"reports: {run.evaluation(name)}")
