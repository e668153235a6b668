"""Configs for tests of what a cluster is asked for: two roles with the example's models."""

from pathlib import Path
from typing import Any

from cgd_ray.config import Config

MODELS = Path("examples/tinymath/models").absolute()


def make_config(student: dict[str, Any] | None = None, teacher: dict[str, Any] | None = None, **changes: Any) -> Config:
    """A config with these settings of the roles, and these beside the roles."""
    roles = {
        name: {"model": str(MODELS / name), "context_length": 1024, **(role or {})}
        for name, role in (("student", student), ("teacher", teacher))
    }
    return Config.model_validate({"run_dir": "run", "problems": {"path": "problems.jsonl"}, **roles, **changes})
