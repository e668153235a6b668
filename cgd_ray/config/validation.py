"""What is measured of a student while it trains."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cgd_ray.config.base import Count, Settings
from cgd_ray.config.roles import PlacementConfig
from cgd_ray.config.sampling import SamplingConfig


class AnswersConfig(Settings):
    """Held-out problems that the student of a checkpoint answers, the problem alone, beside the training, which does not wait for it."""

    every_steps: Count
    """Steps between the checkpoints that are measured so, a multiple of training.checkpoint_every_steps; the last step's is as well."""
    max_problems: Count = 500
    """Answer at most so many of the held-out problems that have a reference answer."""
    sampling: SamplingConfig = SamplingConfig()
    """How the student decodes."""
    placement: PlacementConfig | None = None
    """Engines, beside the workers of the training; null takes one replica of student.placement."""


class ValidationConfig(Settings):
    """What the student makes of held-out problems while it trains; never of a benchmark."""

    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Share of the problems that is held out: chosen by a hash of the problem's id, so the same for every arm, seed, budget
    and run."""
    every_steps: Count
    """Steps between looks at the held-out loss; the last step is always followed by one."""
    answers: AnswersConfig | None = None
    """Also measure pass@1 on held-out problems, by engines of its own; null measures the loss only."""
    choose_by: Literal["loss", "pass@1"] = "loss"
    """What makes the best checkpoint: the least held-out loss, or the highest pass@1 on held-out problems, which needs `answers`."""

    @model_validator(mode="after")
    def _what_is_chosen_by_is_measured(self) -> "ValidationConfig":
        if self.choose_by == "pass@1" and self.answers is None:
            raise ValueError("choose_by is pass@1 but answers is null, so pass@1 is not measured; set answers, or choose by loss")
        return self
