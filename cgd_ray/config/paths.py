"""Makes the paths of a config mean the same everywhere: `~` and `$NAME` expanded, local ones absolute.

Why: no shell has seen what is in a YAML file, and workers share neither the driver's current directory nor its environment.
How to use: `config = resolved(config)`.
"""

import os
import re
from pathlib import Path
from typing import Any

from cgd_ray.config.problems import ProblemsConfig, SourceT
from cgd_ray.config.roles import RoleConfig
from cgd_ray.config.tree import Config

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)


def resolved(config: Config) -> Config:
    """The config with every path expanded, and absolute where it is local. Raises ValueError that names the setting."""
    generation = config.generation
    reuse = tuple(_absolute(f"generation.reuse.{index}", path) for index, path in enumerate(generation.reuse))
    update: dict[str, Any] = {
        "run_dir": _absolute("run_dir", config.run_dir),
        "problems": _problems(config.problems),
        "student": _role("student", config.student),
        "teacher": _role("teacher", config.teacher),
        "generation": generation.model_copy(update={"reuse": reuse}),
    }
    update |= {name: _absolute(name, path) for name in ("prompts", "records") if (path := getattr(config, name)) is not None}
    if config.evaluation is not None:
        held_out = _source("evaluation.problems", config.evaluation.problems)
        update["evaluation"] = config.evaluation.model_copy(update={"problems": held_out})
    return config.model_copy(update=update)


def _problems(problems: ProblemsConfig) -> ProblemsConfig:
    update: dict[str, Any] = {"mix": tuple(_source(f"problems.mix.{index}", mixed) for index, mixed in enumerate(problems.mix))}
    if (cleaning := problems.decontaminate) is not None:
        against = tuple(_source(f"problems.decontaminate.against.{index}", source) for index, source in enumerate(cleaning.against))
        update["decontaminate"] = cleaning.model_copy(update={"against": against})
    return _source("problems", problems).model_copy(update=update)


def _source(setting: str, source: SourceT) -> SourceT:
    return source.model_copy(update={"path": _absolute_if_local(f"{setting}.path", source.path)})


def _role(name: str, role: RoleConfig) -> RoleConfig:
    if role.api is not None:
        return role  # the model is a name at the endpoint
    files = {key: _absolute(f"{name}.{key}", path) for key in ("adapter", "chat_template") if (path := getattr(role, key)) is not None}
    return role.model_copy(update={"model": _absolute_if_local(f"{name}.model", role.model), **files})


def _absolute(setting: str, path: str) -> str:
    return str(Path(_expanded(setting, path)).absolute())


def _absolute_if_local(setting: str, path: str) -> str:
    """What may be a name on the hub stays as it is unless there is such a file or directory."""
    path = _expanded(setting, path)
    return str(Path(path).absolute()) if Path(path).exists() else path


def _expanded(setting: str, path: str) -> str:
    for name in (plain or braced for plain, braced in _VARIABLE.findall(path)):
        if not os.environ.get(name):  # an empty one would turn a path of the user's into one of the system's
            raise ValueError(f"{setting} is {path!r}, and the environment has no variable {name!r}; set it, or write the path out")
    path = os.path.expanduser(os.path.expandvars(path))
    if path.startswith("~"):
        raise ValueError(f"{setting} is {path!r}, and there is no such home directory; write the path out")
    return path
