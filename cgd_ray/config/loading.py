"""Reads a YAML file and `a.b=c` overrides into the tree, and prints the tree; every mistake is one line that names the key."""

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cgd_ray.config.base import Settings
from cgd_ray.config.paths import resolved
from cgd_ray.config.tree import Config, is_execution_only
from cgd_ray.config.yaml_text import parse_yaml, read_yaml

SettingsT = TypeVar("SettingsT", bound=Settings)

OVERRIDE_SHOWN = 200
"""Characters of an override that a message repeats."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=c` overrides, resolve paths and validate.

    Relative paths are taken from the current directory. Raises ValueError with one line per problem that names the key, the value
    and the remedy.
    """
    return resolved(read_config(path, overrides))


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The same with the paths as they are written. Raises ValueError as load_config()."""
    return read_settings(Config, path, overrides)


def read_settings(model: type[SettingsT], path: str | Path, overrides: Sequence[str] = ()) -> SettingsT:
    """Settings of any kind from a YAML file and `a.b=c`. Raises ValueError as load_config()."""
    source = Path(path)
    if not source.exists():
        raise ValueError(f"config {source} does not exist; jobs/configs/ holds examples")
    try:
        tree = read_yaml(source)
    except ValueError as error:
        raise ValueError(f"config {source} {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"config {source} holds {type(tree).__name__}, not a mapping of settings")
    for override in overrides:
        _apply_override(tree, override)
    return _validated(model, tree, "add it to the config or ")


def parse_settings(model: type[SettingsT], overrides: Sequence[str]) -> SettingsT:
    """Settings of another kind from `a.b=c` alone. Raises ValueError as load_config()."""
    tree: dict[str, Any] = {}
    for override in overrides:
        _apply_override(tree, override)
    return _validated(model, tree)


def to_yaml(config: Config, with_docs: bool = False) -> str:
    """The config as YAML, optionally with each field's documentation as a comment above it."""
    if not with_docs:
        return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return "\n".join(_documented_lines(config, indent=0)) + "\n"


def differing_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of every setting that differs and that changes what a run produces."""
    old_leaves, new_leaves = dict(_leaves(old)), dict(_leaves(new))
    keys = [key for key in {**old_leaves, **new_leaves} if not is_execution_only(key)]
    return [(key, old_leaves.get(key), new_leaves.get(key)) for key in keys if old_leaves.get(key) != new_leaves.get(key)]


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ValueError(f"override {override!r} is not of the form a.b=c")
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        child = {} if node.get(parent) is None else node[parent]
        if not isinstance(child, dict):
            raise ValueError(f"override {override!r}: {parent} is a value, not a group of settings")
        node[parent] = dict(child)  # a copy: a YAML anchor makes one mapping the value of several keys
        node = node[parent]
    try:
        node[leaf] = parse_yaml(value)
    except ValueError as error:
        raise ValueError(f"override {override[:OVERRIDE_SHOWN]!r}: the value is {error}; put it in single quotes") from None


def _validated(model: type[SettingsT], tree: Mapping[str, Any], remedy: str = "") -> SettingsT:
    """`remedy` is a further one for what is missing."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(model, item, remedy) for item in error.errors())) from None


def _explain(model: type[BaseModel], item: Mapping[str, Any], remedy: str) -> str:
    """One line for one pydantic error; an unknown key gets the nearest valid name."""
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        valid = _valid_names(model, location[:-1])
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"valid here: {', '.join(valid)}"
        return f"unknown setting {key}; {hint}"
    if item["type"] == "missing":
        return f"setting {key} is missing; {remedy}give {key}=VALUE"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{key or 'config'}: {message}"
    return f"setting {key} is {item['input']!r}: {message}"


def _valid_names(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    for part in location:
        if part.isdigit():  # a place in a list of settings
            continue
        inner = _settings_class(model.model_fields[part].annotation)
        assert inner is not None, f"{part} has no fields of its own"
        model = inner
    return list(model.model_fields)


def _settings_class(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) in {typing.Union, tuple}:
        return next((found for found in map(_settings_class, typing.get_args(annotation)) if found), None)
    return None


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):  # an empty one has no settings that could differ
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _documented_lines(settings: BaseModel, indent: int) -> Iterator[str]:
    pad = "  " * indent
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        for line in (field.description or "").splitlines():
            yield f"{pad}# {line}"
        if isinstance(value, BaseModel):
            yield f"{pad}{name}:"
            yield from _documented_lines(value, indent + 1)
        else:
            plain = settings.model_dump(mode="json", include={name})[name]
            yield f"{pad}{name}: {_flow(plain)}"
            if value in (None, ()) and (inner := _settings_class(field.annotation)) is not None:
                yield from (f"{pad}#{line}" for line in _documented_defaults(inner, 1))


def _documented_defaults(model: type[BaseModel], indent: int) -> Iterator[str]:
    """What may be written in a group that is null now."""
    pad = "  " * indent
    for name, field in model.model_fields.items():
        for line in (field.description or "").splitlines():
            yield f"{pad}# {line}"
        if (inner := _settings_class(field.annotation)) is not None:
            yield f"{pad}{name}:"
            yield from _documented_defaults(inner, indent + 1)
        else:
            yield f"{pad}{name}: {'must be given' if field.is_required() else _flow(field.get_default(call_default_factory=True))}"


def _flow(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump([plain], default_flow_style=True, allow_unicode=True, width=1000, sort_keys=False).strip()[1:-1]
