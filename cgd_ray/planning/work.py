"""The work of a run in rows, tokens and steps, from its config, its problems and how long texts are.

How to use: `work = Work.of(config, num_problems, lengths)`.
"""

from dataclasses import dataclass

from cgd_ray.config import Config, TrainingConfig
from cgd_ray.planning.lengths import Lengths
from cgd_ray.planning.ranges import Range

KEPT = Range(0.93, 0.75, 1.0)
"""Share of the rows that are trained on where all sound ones are; what is cut, empty or too long is not."""
KEPT_WHEN_GRADED = {"all": 1.0, "verified": 0.75, "repaired": 0.3}
"""Of those, by selection.keep; the last two depend on the models more than on anything else."""
FILLED = 0.97
"""Of a packed row."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Of one role, in all."""

    prompt: Range
    """Read, without what the engine finds in its cache."""
    cached: Range
    """Found there."""
    generated: Range


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to do."""

    rows: int
    student: Tokens
    teacher: Tokens
    examples: Range
    example_tokens: Range
    """Of one example."""
    target_share: float
    """Of an example's tokens, those that are learnt."""
    trained_tokens: Range
    """In all epochs."""
    steps: Range
    answers: int
    """To evaluation problems, of both models."""
    answer_tokens: Range
    """Generated for them."""

    @classmethod
    def of(cls, config: Config, num_problems: int, num_evaluated: int, lengths: Lengths) -> "Work":
        """`num_evaluated` answers are asked of each model."""
        rows = num_problems * config.generation.num_samples
        example, targets = example_lengths(config.training, lengths)
        examples = KEPT * (rows * KEPT_WHEN_GRADED[config.selection.keep])
        if config.training.max_examples is not None:
            examples = examples.at_most(config.training.max_examples)
        example = example.at_most(config.training.context_length)
        tokens = examples * example * config.training.num_epochs
        return cls(
            rows=rows,
            student=_student(config, rows, lengths),
            teacher=_teacher(config, rows, lengths),
            examples=examples,
            example_tokens=example,
            target_share=min(1.0, targets.likely / example.likely),
            trained_tokens=tokens,
            steps=_steps(config.training, tokens),
            answers=2 * num_evaluated,
            answer_tokens=lengths.attempt * (2 * num_evaluated),
        )


def _student(config: Config, rows: int, lengths: Lengths) -> Tokens:
    prompt = (lengths.question + lengths.student_overhead) * rows
    samples = config.generation.num_samples
    fresh = 1 / samples  # of a problem's prompts all but the first are in the cache
    return Tokens(prompt=prompt * fresh, cached=prompt * (1 - fresh), generated=lengths.attempt * rows)


def _teacher(config: Config, rows: int, lengths: Lengths) -> Tokens:
    """Critiques and refinements, whose prompts begin with the critique's whole conversation; direct answers where they are asked for."""
    critique = lengths.question + lengths.shown("attempt") + lengths.teacher_overhead
    turns = Tokens(
        prompt=(critique + lengths.refine_overhead) * rows,
        cached=(critique + lengths.shown("critique")) * rows,
        generated=(lengths.critique + lengths.refinement) * rows,
    )
    if not config.wants_direct:
        return turns
    return Tokens(
        prompt=turns.prompt + (lengths.question + lengths.student_overhead) * rows,
        cached=turns.cached,
        generated=turns.generated + lengths.direct * rows,
    )


def example_lengths(training: TrainingConfig, lengths: Lengths) -> tuple[Range, Range]:
    """Mean tokens of an example of the training's arms, and those of them that are targets."""
    alone = lengths.question + lengths.student_overhead
    reviewed = alone + lengths.revise_overhead
    attempt, critique, refinement, direct = (lengths.shown(turn) for turn in ("attempt", "critique", "refinement", "direct"))
    arms: dict[str, tuple[Range, Range]] = {
        "cgd": (reviewed + attempt + critique, refinement),
        "cgd_without_attempt": (reviewed + critique, refinement),
        "cgd_without_critique": (reviewed + attempt, refinement),
        "refined_only": (alone, refinement),
        "distilled_sft": (alone, direct),
        "sft": (alone, refinement),
        "cft": (alone + attempt, critique),
    }
    total, targets = Range.exactly(0.0), Range.exactly(0.0)
    for arm, share in training.arm_shares.items():
        context, target = arms[arm]
        total, targets = total + (context + target) * share, targets + target * share
    return total, targets


def _steps(training: TrainingConfig, tokens: Range) -> Range:
    """Optimizer steps of all epochs."""
    if training.steps_per_epoch is not None:
        return Range.exactly(float(training.steps_per_epoch * training.num_epochs))
    rows = tokens / (training.context_length * FILLED)
    return rows / training.global_batch_size + 0.5 * training.num_epochs  # the last step of an epoch is seldom full
