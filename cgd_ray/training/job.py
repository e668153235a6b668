"""What a training worker is told: plain strings and numbers, so that it crosses processes and nodes."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgd_ray.config import Config, TrainingConfig
from cgd_ray.data.rundir import RunDir

PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "TRANSFORMERS_OFFLINE")
"""What the workers need of the driver's environment."""


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One training. All paths are on storage that every worker sees."""

    training: dict[str, Any]
    """The TrainingConfig, dumped."""
    model: str
    """Directory or hub name of the initial model."""
    adapter: str | None = None
    """Directory of a LoRA adapter that is merged into it before the training."""
    packed: str
    """Directory that packing.pack has written."""
    checkpoints: str
    """Directory for checkpoints."""
    metrics: str
    """File that receives one JSON line per step."""
    export_to: str
    """Directory that the trained model is published as."""
    validation: str | None = None
    """Directory with the packed held-out examples; set when the settings ask for validation."""
    about: dict[str, str] = field(default_factory=dict)
    """Where the data come from, for the model card: what and its name."""
    stream: str | None = None
    """Fingerprint of the records that the packed rows are still being made from; null where they are finished."""
    chat_template: str | None = None
    """File with the chat template of a model that has none of its own."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables for the workers."""

    @classmethod
    def of(cls, config: Config, run: RunDir, stream: str | None = None) -> "TrainJob":
        """The training of a run; `stream` is the fingerprint of records that are still being made."""
        student, training = config.student, config.training
        return cls(
            training=training.model_dump(mode="json"),
            model=student.model,
            adapter=student.adapter,
            packed=str(run.packed),
            checkpoints=str(run.checkpoints),
            metrics=str(run.metrics),
            export_to=str(run.model),
            validation=None if training.validation is None else str(run.validation_packed),
            about={"teacher": config.teacher.model, "problems": config.problems.label, "selection": config.selection.keep},
            stream=stream,
            chat_template=student.chat_template,
            environment={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        )

    def training_config(self) -> TrainingConfig:
        """The settings, typed again. Raises ValueError where the precision is not settled yet."""
        training = TrainingConfig.model_validate(self.training)
        if training.precision == "auto":
            raise ValueError("training.precision is auto, which a worker cannot decide for all others; set it to bf16 or fp32")
        return training

    @property
    def measurements_file(self) -> Path:
        """What held-out pass@1 came out for which checkpoint (observe/measurements.py)."""
        return Path(self.metrics).with_name("validation.jsonl")

    @property
    def stop_flag(self) -> Path:
        """Tells the ranks to save and end, once it exists."""
        return Path(self.checkpoints) / "stop"

    @property
    def stopped_file(self) -> Path:
        """Written when the numbers stop being finite; starting again from a checkpoint would only repeat that."""
        return Path(self.checkpoints) / "stopped.json"
