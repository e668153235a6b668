"""Configs and machines that plans in tests are made of; nothing is read from a hub, and no file but the problems."""

import json
from pathlib import Path
from typing import Any

from cgd_ray.config import Config
from cgd_ray.config.loading import parse_settings
from cgd_ray.planning.hardware import Machine, Machines

STUDENT, TEACHER = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"


def h100_nodes(count: int = 2, **changes: Any) -> Machines:
    """Nodes of eight."""
    return Machines(nodes=(Machine.model_validate({"count": count, "gpu": "H100", "gpus": 8, "cpus": 192, "memory_gib": 2000, **changes}),))


def config_of(root: Path, *overrides: str) -> Config:
    """8B learns from 70B on a hundred problems; `overrides` as on the command line."""
    problems = root / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": f"What is {number} + {number}?"}) + "\n" for number in range(100)))
    settings = {
        "run_dir": root / "run",
        "problems.path": problems,
        "student.model": STUDENT,
        "student.placement.gpus_per_replica": 1,
        "teacher.model": TEACHER,
        "teacher.placement.gpus_per_replica": 8,
        "training.use_gpu": "true",
        "training.num_workers": 16,
        "training.zero_stage": 3,
        "training.activation_checkpointing": "true",
    }
    return parse_settings(Config, [*(f"{key}={value}" for key, value in settings.items()), *overrides])
