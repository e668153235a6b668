"""A finished evaluation for the dashboards of other tools.

How to use: `export_evaluation(run.evaluation("trained"), "inspect", Path("logs"))`, or "lm-eval".
"""

from pathlib import Path
from typing import Literal

from cgd_ray.evaluation.interchange.finding import find_evaluations
from cgd_ray.evaluation.interchange.inspect_writing import write_inspect
from cgd_ray.evaluation.interchange.lm_eval_writing import write_lm_eval
from cgd_ray.evaluation.interchange.neutral import OWN_KEY

Form = Literal["lm-eval", "inspect"]


def export_evaluation(directory: Path, form: Form, output: Path) -> list[Path]:
    """Write one benchmark's evaluation, or all of a model; the files written.

    lm-eval's go below `output`, as below its --output_path. Inspect's are a log for each benchmark in the directory `output`, or for one
    benchmark `output` itself where that ends in .eval. Raises ValueError, one line, for what is no evaluation of this project.
    """
    evaluations = find_evaluations(directory)
    if foreign := [evaluation for evaluation in evaluations if evaluation.source != OWN_KEY]:
        raise ValueError(f"{directory} holds an evaluation of {foreign[0].source}, which needs no export; give RUN/evaluation/MODEL")
    if form == "lm-eval":
        return write_lm_eval(evaluations, output)
    if output.suffix == ".eval" and len(evaluations) > 1:
        raise ValueError(f"{output} is one log, and {directory} holds {len(evaluations)} evaluations; give a directory")
    return [write_inspect(evaluation, output) for evaluation in evaluations]
