"""Diagnoses a run where it lies: the teacher's verdicts, what critiques explain, what was internalised, how the answers have drifted.

It needs a run that has begun, since its precision and models count; what is not there yet, as a trained student, is left out.
How to use: `diagnose_run(config)`, which is `cgd diagnose`.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cgd_ray.cluster.capacity import check_cluster, check_cpus_here
from cgd_ray.cluster.connection import connected, starts_here
from cgd_ray.cluster.hub import fetch_weights
from cgd_ray.cluster.precision import as_begun
from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir, read_manifest
from cgd_ray.evaluation.diagnostics.conditioned import ALONE, GIVEN
from cgd_ray.evaluation.diagnostics.diagnose import diagnose
from cgd_ray.evaluation.diagnostics.nll import AFTER, BEFORE, SHOWN
from cgd_ray.evaluation.evaluate import Exam
from cgd_ray.evaluation.report import Report
from cgd_ray.process.console import Screen, printing_lines
from cgd_ray.process.faults import failing, refusing
from cgd_ray.process.stopping import stopped_by_signals
from cgd_ray.reporting.page.diagnosis import EXPLAINED, INTERNALISED
from cgd_ray.reporting.page.page import refresh_report
from cgd_ray.runs.contents import with_models
from cgd_ray.runs.exams import answer_exam
from cgd_ray.runs.lease import leased
from cgd_ray.runs.remote.working_copy import working_copy

PHASES = frozenset({"train", "evaluate"})
"""Whose devices score the examples, and answer."""


def diagnose_run(config: Config, take_over: bool = False) -> None:
    """Write RUN_DIR/diagnostics and the report, and print what was found.

    Raises RefusedError, StageFailedError and StoppedError as a run does.
    """
    with printing_lines() as say, working_copy(config, say, take_over) as here:
        _diagnose(here, take_over)


def _diagnose(config: Config, take_over: bool) -> None:
    run = RunDir(config.run_dir)
    with refusing():
        recorded = run.recorded_config()
        if recorded is None or read_manifest(run.selected) is None:
            raise ValueError(f"run_dir {run.root} holds no selected records to diagnose; run `cgd generate` with the same config first")
        config = as_begun(with_models(config, ("student",)), recorded)
        scored_by_one = config.model_copy(update={"training": config.training.model_copy(update={"num_workers": 1})})
        if starts_here(config.cluster):
            check_cpus_here(scored_by_one, PHASES)
    with Screen(run.logs / "driver.log") as screen, failing(run.root, run.logs), leased(run.lease, screen.say, take_over):
        screen.say("starting Ray")
        with connected(config.cluster) as resources, stopped_by_signals(screen.say):
            with refusing():
                check_cluster(scored_by_one, resources, PHASES)
            fetch_weights(config, ("student",), screen.say)
            total = config.diagnostics.max_records * len(SHOWN) * (1 if read_manifest(run.model) is None else 2)
            with screen.progress("diagnose", total, "examples at most") as bar:
                found = diagnose(config, run, bar.advance, partial(_examine, screen))
        screen.table("nats per token of the refinement", _losses(found["nll"]["groups"]["all"]))
        if found["conditioned"] is None:
            screen.say("no record has a reference answer, so accuracy given a critique is not measured")
        else:
            screen.table(f"accuracy on {found['conditioned']['problems']:,} problems", _accuracies(found["conditioned"]["students"]))
        for line in (*_explanations(found["nll"]["groups"]["all"]), *_advice(found["drift"])):
            screen.say(line)
        refresh_report(run, screen.say)
        screen.say(f"diagnostics: {run.diagnostics}")
        screen.say(f"report:      {run.report}")


def _losses(group: Mapping[str, Any]) -> list[dict[str, str]]:
    models = [name for name in (BEFORE, AFTER) if name in group["nll"]]
    contexts = [context for context in SHOWN if context in group["nll"][BEFORE]]
    return [{"given": SHOWN[context], **{name: f"{group['nll'][name][context]:.4f}" for name in models}} for context in contexts]


def _examine(screen: Screen, name: str, exam: Exam, directory: Path) -> dict[str, Report]:
    return answer_exam(exam, f"{name} with critiques", directory, screen)


def _accuracies(students: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "student": name,
            "problem alone": f"{found[ALONE]['accuracy']:.1%}",
            "given a critique": f"{found[GIVEN]['accuracy']:.1%}",
            "difference, points": "{:+.1f} ({:+.1f} to {:+.1f})".format(*_points(found["difference"], *found["difference_interval"])),
        }
        for name, found in students.items()
    ]


def _points(*shares: float) -> list[float]:
    return [100 * share for share in shares]


def _explanations(group: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{name}: {what} {_with_error(found[what_key])}"
        for name, found in group["differences"].items()
        for what_key, what in EXPLAINED.items()
        if what_key in found
    ]
    if "internalised" in group:
        lines.append(f"internalised, {INTERNALISED}: {_with_error(group['internalised'])}")
    return lines


def _advice(drift: Mapping[str, Any]) -> list[str]:
    found = [*drift["advisories"], *(advice for benchmark in drift["benchmarks"].values() for advice in benchmark["advisories"])]
    return [f"{advice['level']}: {advice['title']}: {advice['detail']}" for advice in found]


def _with_error(difference: Mapping[str, Any]) -> str:
    error = difference["standard_error"]
    return f"{difference['mean']:.4f}" + ("" if error is None else f" ± {error:.4f}")
