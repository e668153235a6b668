"""Libraries that only some settings need: they are optional, and asking for one that is missing is refused before anything begins."""

from collections.abc import Callable
from importlib.util import find_spec

from cgd_ray.config import TrainingConfig

OPTIONAL: tuple[tuple[str, str, str, Callable[[TrainingConfig], bool]], ...] = (
    ("mlflow", "trackers", "training.trackers names mlflow", lambda training: "mlflow" in training.trackers),
    ("wandb", "trackers", "training.trackers names wandb", lambda training: "wandb" in training.trackers),
    ("peft", "lora", "training.lora is set", lambda training: training.lora is not None),
)
"""Module, the extra of this package that brings it, and the setting that needs it."""


def check_installed(training: TrainingConfig) -> None:
    """Raise ValueError when a setting needs a library that is not installed here."""
    for module, extra, setting, is_needed in OPTIONAL:
        if is_needed(training) and find_spec(module) is None:
            raise ValueError(f"{setting}, but the library {module} is not installed; pip install 'cgd-ray[{extra}]' on every node")
