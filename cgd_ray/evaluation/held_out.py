"""How the student of a checkpoint does on held-out problems, while the training goes on: one number for its curve and for the best one.

How to use: `examine = HeldOutExam(student=role, prompts=prompts, work_list=path, grading_timeout_s=5)`; `examine(model, directory)` in the
Ray task that measures a checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgd_ray.config import RoleConfig
from cgd_ray.data.prompts import Prompts
from cgd_ray.evaluation.evaluate import Exam
from cgd_ray.evaluation.papers import Paper

NAME = "problems"
GRADER = "boxed-math-strict"
"""The student learns to box its answers, so what it does not box is wrong here, as in what it is trained on."""
KEPT = ("num_problems", "truncated", "unboxed", "failed", "seconds")


@dataclass(frozen=True, kw_only=True)
class HeldOutExam:
    """Crosses processes."""

    student: RoleConfig
    """Everything but the model."""
    prompts: Prompts
    work_list: Path
    """WORK_SCHEMA, with reference answers."""
    grading_timeout_s: float

    def __call__(self, model: str, directory: Path) -> dict[str, Any]:
        """pass@1 with its interval, how many problems there were, and the shares of answers that were cut, unboxed or failed."""
        exam = Exam(
            role=self.student.model_copy(update={"model": model}),
            prompts=self.prompts,
            papers=[Paper(name=NAME, work_list=self.work_list, grader=GRADER)],
            grading_timeout_s=self.grading_timeout_s,
        )
        report = exam(directory)[NAME]
        return {
            "model": model,
            "pass@1": report["avg@k"],
            "pass@1_interval": report["interval"],
            **{name: report[name] for name in KEPT},
        }
