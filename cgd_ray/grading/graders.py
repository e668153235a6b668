"""The graders by their names.

- `boxed-math`: mathematics, from the last box, else a final-answer phrase or the last number; the accuracy of boxes alone is told beside it
- `boxed-math-strict`: mathematics, from the last box alone
- `loose`: mathematics as loosely as published results were graded: numbers equal after rounding to one decimal
- `multiple-choice`: an option's letter or text
- `exact`: the same characters
- `ifeval`, `ifbench`: instructions that are followed or not, strictly and loosely, by prompt and by instruction
- `package.module:function`: a user's own function

How to use: `with grader_named("multiple-choice", timeout_s=5) as grader: grader.verdicts(answers)`. A grader crosses processes.
"""

import difflib
from collections.abc import Callable, Mapping

from cgd_ray.grading.boxed_math import BoxedMath
from cgd_ray.grading.custom import Custom, is_import_path
from cgd_ray.grading.exact import Exact
from cgd_ray.grading.grader import STRICT, Grader
from cgd_ray.grading.instructions import IFBENCH, IFEVAL, Instructions
from cgd_ray.grading.loose import LooseMath
from cgd_ray.grading.multiple_choice import MultipleChoice
from cgd_ray.grading.verdict import Kind

GRADERS: Mapping[str, Callable[[], Kind]] = {
    "boxed-math": BoxedMath,
    "boxed-math-strict": lambda: STRICT,
    "loose": LooseMath,
    "multiple-choice": MultipleChoice,
    "exact": Exact,
    "ifeval": lambda: Instructions(name=IFEVAL),
    "ifbench": lambda: Instructions(name=IFBENCH),
}


def kind_named(name: str) -> Kind:
    """The kind of grading by its name. Raises ValueError, one line with the nearest names, where there is none or it cannot begin."""
    if name in GRADERS:
        return GRADERS[name]()
    if is_import_path(name):
        return Custom(name)
    near = difflib.get_close_matches(name.lower(), GRADERS, n=2)
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(GRADERS)}"
    raise ValueError(f"unknown grader {name!r}; {meant} A function of your own is written package.module:function")


def grader_named(name: str, timeout_s: float, num_workers: int | None = None) -> Grader:
    """A grader of that kind; `timeout_s` is for one answer. Raises what kind_named() raises."""
    return Grader(timeout_s, num_workers, kind_named(name))
