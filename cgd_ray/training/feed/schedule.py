"""The learning rate of a step: a linear warm-up to the peak, then a cosine down to its final share.

Where the number of steps is not known yet, the share of the records that have been dealt with stands in for the share of the steps.
"""

import math

from cgd_ray.config import TrainingConfig


def learning_rate_at(step: int, num_steps: int, training: TrainingConfig) -> float:
    """Rate of the step with this index; the final share is reached at the last step."""
    num_warmup = math.ceil(training.warmup_fraction * num_steps)
    if step < num_warmup:
        return training.learning_rate * (step + 1) / num_warmup
    return _decayed((step - num_warmup) / max(1, num_steps - 1 - num_warmup), training)


def learning_rate_by_share(share: float, training: TrainingConfig) -> float:
    """Rate of the step with which this share of all records, above 0, is dealt with; the final share is reached at 1."""
    warmup = training.warmup_fraction
    if share <= warmup:
        return training.learning_rate * share / warmup
    return _decayed((share - warmup) / (1 - warmup), training)


def _decayed(progress: float, training: TrainingConfig) -> float:
    final = training.final_learning_rate_fraction
    return training.learning_rate * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))
