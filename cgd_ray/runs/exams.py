"""What a run asks of a model that is evaluated, and a bar while it answers.

How to use: `answer_exam(exam_of(config, role, run), "base", run.evaluation("base"), screen)`.
"""

from pathlib import Path

from cgd_ray.config import PROBLEMS, Config, EvaluationConfig, RoleConfig
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.rundir import RunDir
from cgd_ray.evaluation.benchmarks.catalogue import benchmark_named
from cgd_ray.evaluation.benchmarks.loading import source_of
from cgd_ray.evaluation.evaluate import Exam
from cgd_ray.evaluation.papers import Paper
from cgd_ray.evaluation.report import Report
from cgd_ray.process.console import Screen
from cgd_ray.reporting.displays import show_evaluation
from cgd_ray.reporting.health.evaluation import unboxed


def exam_of(config: Config, role: RoleConfig, run: RunDir) -> Exam:
    """What the evaluation of a config asks of a model; its work lists need not be written yet."""
    assert config.evaluation is not None, "the caller skips the evaluation when none is configured"
    return Exam(
        role=role.model_copy(update={"sampling": config.evaluation.sampling}),
        prompts=load_prompts(config.prompts),
        papers=_papers(config.evaluation, run),
        grading_timeout_s=config.selection.grading_timeout_s,
    )


def answer_exam(exam: Exam, name: str, directory: Path, screen: Screen) -> dict[str, Report]:
    """Have the model with this name answer what is missing of its papers in its directory, and grade it; returns the report on each."""
    if exam.is_finished(directory):  # taken over from another run, perhaps: nothing is asked, and a bar would say that something was
        return exam(directory)
    total = sum(paper.rows.num_rows for paper in exam.papers)
    with screen.progress(f"evaluate {name}", total, "answers") as bar:
        reports = exam(directory, lambda counts, estimate: show_evaluation(bar, counts, estimate))
    for benchmark, report in reports.items():
        for advisory in unboxed(name, benchmark, report):
            screen.say(f"{advisory.level}: {advisory.title}. {advisory.detail}")
    return reports


def _papers(evaluation: EvaluationConfig, run: RunDir) -> list[Paper]:
    papers: list[Paper] = []
    if evaluation.problems is not None:
        papers.append(
            Paper(
                name=PROBLEMS,
                work_list=run.evaluation_work_list(PROBLEMS),
                grader=evaluation.grader,
                k=evaluation.k,
                source=evaluation.problems.path,
            )
        )
    for each in evaluation.benchmarks:
        benchmark = benchmark_named(each.name)
        source = source_of(benchmark, each)
        papers.append(
            Paper(
                name=each.name,
                work_list=run.evaluation_work_list(each.name),
                wording=benchmark.wording,
                grader=each.grader or benchmark.grader,
                k=evaluation.k_of(each),
                source=source.path if source.revision is None else f"{source.path}@{source.revision}",
            )
        )
    return papers
