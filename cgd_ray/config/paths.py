"""Makes the paths of a config mean the same everywhere: `~` and `$NAME` expanded, local ones absolute.

Why: no shell has seen what is in a YAML file, and workers share neither the driver's current directory nor its environment.
How to use: `config = resolved(config)`; `without_places(config.model_dump())` is what a run belongs to wherever its sources lie.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cgd_ray.config.evaluation import EvaluationConfig
from cgd_ray.config.problems import ProblemsConfig, SourceConfig, SourceT
from cgd_ray.config.roles import RoleConfig
from cgd_ray.config.tree import Config

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)


def is_url(place: str) -> bool:
    """Whether a place is on an object store, and not a directory."""
    return "://" in place


def is_prompt_set(name: str) -> bool:
    """Whether the setting `prompts` names a set that comes with the package, and not a file: a word without a dot or a slash."""
    return re.fullmatch(r"[\w-]+", name) is not None


def resolved(config: Config) -> Config:
    """The config with every path expanded, and absolute where it is local. Raises ValueError that names the setting."""
    generation = config.generation
    reuse = tuple(_absolute(f"generation.reuse.{index}", path) for index, path in enumerate(generation.reuse))
    update: dict[str, Any] = {
        "run_dir": config.run_dir if is_url(config.run_dir) else _absolute("run_dir", config.run_dir),
        "problems": _problems(config.problems),
        "student": _role("student", config.student),
        "teacher": _role("teacher", config.teacher),
        "generation": generation.model_copy(update={"reuse": reuse}),
    }
    update |= {name: _absolute(name, path) for name in ("working_dir", "records") if (path := getattr(config, name)) is not None}
    if config.prompts is not None and not is_prompt_set(config.prompts):
        update["prompts"] = _absolute("prompts", config.prompts)
    if config.evaluation is not None:
        update["evaluation"] = _evaluation(config.evaluation)
    return config.model_copy(update=update)


def named_paths(config: Config) -> dict[str, str]:
    """Every setting but run_dir that names a file, a directory, or perhaps something on the hub, by its dotted key."""
    problems, evaluation = config.problems, config.evaluation
    sources: dict[str, SourceConfig] = {"problems": problems}
    sources |= {f"problems.mix.{index}": source for index, source in enumerate(problems.mix)}
    if problems.decontaminate is not None:
        sources |= {f"problems.decontaminate.against.{index}": source for index, source in enumerate(problems.decontaminate.against)}
    if evaluation is not None and evaluation.problems is not None:
        sources["evaluation.problems"] = evaluation.problems
    found: dict[str, str | None] = {f"{name}.path": source.path for name, source in sources.items()}
    if evaluation is not None:
        found |= {f"evaluation.benchmarks.{index}.path": benchmark.path for index, benchmark in enumerate(evaluation.benchmarks)}
    for name, role in (("student", config.student), ("teacher", config.teacher)):
        if role.api is None:
            found |= {f"{name}.{setting}": getattr(role, setting) for setting in ("model", "adapter", "chat_template")}
    named_set = config.prompts is not None and is_prompt_set(config.prompts)
    found |= {"prompts": None if named_set else config.prompts, "records": config.records}
    found |= {f"generation.reuse.{index}": path for index, path in enumerate(config.generation.reuse)}
    return {name: path for name, path in found.items() if path is not None}


def without_places(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """A dumped config without where problems and wording lie, which the work lists and prompts.yaml hold; another tree as it is."""
    if "problems" not in tree:
        return tree
    problems = _without_path(tree["problems"])
    problems["mix"] = [_without_path(mixed) for mixed in problems.get("mix", [])]
    if cleaning := problems.get("decontaminate"):
        problems["decontaminate"] = {**cleaning, "against": [_without_path(source) for source in cleaning["against"]]}
    evaluation = tree.get("evaluation")
    if evaluation is not None and evaluation["problems"] is not None:
        evaluation = {**evaluation, "problems": _without_path(evaluation["problems"])}
    return {name: value for name, value in tree.items() if name != "prompts"} | {"problems": problems, "evaluation": evaluation}


def _without_path(source: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name != "path"}


def _problems(problems: ProblemsConfig) -> ProblemsConfig:
    update: dict[str, Any] = {"mix": tuple(_source(f"problems.mix.{index}", mixed) for index, mixed in enumerate(problems.mix))}
    if (cleaning := problems.decontaminate) is not None:
        against = tuple(_source(f"problems.decontaminate.against.{index}", source) for index, source in enumerate(cleaning.against))
        update["decontaminate"] = cleaning.model_copy(update={"against": against})
    return _source("problems", problems).model_copy(update=update)


def _evaluation(evaluation: EvaluationConfig) -> EvaluationConfig:
    benchmarks = tuple(
        benchmark
        if benchmark.path is None
        else benchmark.model_copy(update={"path": _absolute(f"evaluation.benchmarks.{index}.path", benchmark.path)})
        for index, benchmark in enumerate(evaluation.benchmarks)
    )
    held_out = None if evaluation.problems is None else _source("evaluation.problems", evaluation.problems)
    return evaluation.model_copy(update={"problems": held_out, "benchmarks": benchmarks})


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
