"""A training's steps as Ray metrics, which Prometheus scrapes from the driver's node.

How to use, with Ray initialised: `gauges = StepGauges()`, then `gauges(metrics)` for each step.
"""

from collections.abc import Mapping

GAUGES = {
    "train/step": ("cgd_training_step", "Optimizer steps that were taken"),
    "train/loss": ("cgd_training_loss", "Mean loss of a step's targets"),
    "train/grad_norm": ("cgd_training_gradient_norm", "Before it is clipped"),
    "train/world_size": ("cgd_training_workers", "Workers that took the step"),
    "train/tokens_per_s": ("cgd_training_tokens_per_second", "Of all workers together"),
    "train/mfu": ("cgd_training_model_flops_utilization", "Share of what the GPUs could compute"),
    "time/step_s": ("cgd_training_step_seconds", "What a step took"),
    "memory/peak_gib": ("cgd_training_peak_memory_gib", "Most that a worker has held on its device"),
    "validation/loss": ("cgd_training_held_out_loss", "Mean loss of held-out targets"),
}
"""Name in metrics.jsonl -> name for Prometheus, to which Ray adds `ray_`, and what it is."""


class StepGauges:
    """Each with the value of the newest step that has it."""

    def __init__(self) -> None:
        from ray.util.metrics import Gauge

        self._gauges = {key: Gauge(name, description) for key, (name, description) in GAUGES.items()}

    def __call__(self, metrics: Mapping[str, float]) -> None:
        """Take a step's metrics."""
        for key in GAUGES.keys() & metrics.keys():
            self._gauges[key].set(metrics[key])

    def end(self) -> None:
        """The training is over: it takes no steps, which is no fault."""
        self._gauges["train/step"].set(0)
