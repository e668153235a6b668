"""Refuses a run that cannot work, before any engine starts: models, prompts, contexts, libraries, keys. capacity.py looks at the cluster.

Each refusal is a ValueError of one line that names the setting, what it is, what it would have to be and what to do.
"""

import json
import os
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from cgd_ray.config import Config, RoleConfig, TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, load_prompts
from cgd_ray.engines.adapters import check_fits, read_adapter
from cgd_ray.engines.contexts import is_built_in, longest_context

OPTIONAL: tuple[tuple[str, str, str, Callable[[TrainingConfig], bool]], ...] = (
    ("mlflow", "trackers", "training.trackers names mlflow", lambda training: "mlflow" in training.trackers),
    ("wandb", "trackers", "training.trackers names wandb", lambda training: "wandb" in training.trackers),
    ("peft", "lora", "training.lora is set", lambda training: training.lora is not None),
)
"""Module, the extra of this package that brings it, and the setting that needs it."""


def check_models(config: Config, problems: pa.Table, roles: Collection[str] = ("student", "teacher")) -> None:
    """Models that run here are loadable, and their contexts hold at least the shortest problem's prompts."""
    prompts = load_prompts(config.prompts)
    question = min(problems["question"].to_pylist(), key=len)
    shortest = {
        "student": prompts.solve_messages(question, prompts.student_system),
        "teacher": prompts.refine_messages(question, "", ""),
    }
    for name, messages in ((name, shortest[name]) for name in roles):
        role: RoleConfig = getattr(config, name)
        if role.api is not None:
            continue  # the endpoint has the model, the tokenizer and the context
        _check_model_files(name, role.model)
        if role.adapter is not None:
            _check_adapter(name, role)
        chat = Chat.load(role.model, role.chat_template_kwargs, role.chat_template)
        _check_context(name, role, chat, messages)
        if name == "student":
            chat.prompt(prompts.revise_messages(question, "", ""))  # refused now where the template cannot show what training shows
            _check_trainable(role.model, config.training)


def check_libraries(training: TrainingConfig) -> None:
    """Optional libraries that the settings ask for are installed."""
    for module, extra, setting, is_needed in OPTIONAL:
        if is_needed(training) and find_spec(module) is None:
            raise ValueError(f"{setting}, but the library {module} is not installed; pip install 'cgd-ray[{extra}]' on every node")


def check_key(teacher: RoleConfig) -> None:
    """The key of the teacher's endpoint is there; for a Ray that is started on this machine and inherits this environment."""
    variable = None if teacher.api is None else teacher.api.key_variable
    if variable is not None and not os.environ.get(variable, "").strip():
        raise ValueError(f"teacher.api.key_variable {variable} is not set in this environment; set it to the key of the endpoint")


def _check_model_files(name: str, model: str) -> None:
    directory = Path(model)
    if not directory.is_dir():
        if directory.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
            raise ValueError(f"{name}.model {model} does not exist; give a model directory or a hub name")
        return
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise ValueError(f"{name}.model {model} has no config.json; give a directory in Hugging Face format")
    try:
        model_config = json.loads(config_file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}.model {model} has a broken config.json ({error}); copy the model again") from None
    if not isinstance(model_config, dict):
        raise ValueError(f"{name}.model {model} has a broken config.json (a {type(model_config).__name__}); copy the model again")
    if "auto_map" in model_config and not is_built_in(model_config.get("model_type")):
        raise ValueError(f"{name}.model {model} asks to run its own code (auto_map in config.json); convert it to a built-in architecture")
    if not any(directory.glob("*.safetensors")):
        raise ValueError(f"{name}.model {model} has no .safetensors weights; convert them, other formats can run code when loaded")


def _check_adapter(name: str, role: RoleConfig) -> None:
    assert role.adapter is not None, "the caller skips models without one"
    try:
        check_fits(read_adapter(role.adapter), role.model)
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from None


def _check_context(name: str, role: RoleConfig, chat: Chat, messages: list[Message]) -> None:
    needed = len(chat.prompt(messages).input_ids) + 1
    if needed > role.context_length:
        raise ValueError(
            f"{name}.context_length {role.context_length} is too small: the shortest problem's prompt and one token make {needed}; raise it"
        )
    limit = None if role.engine.get("hf_overrides") else longest_context(role.model)  # those may lengthen it, which vLLM then judges
    if limit is not None and role.context_length > limit:
        raise ValueError(f"{name}.context_length {role.context_length} exceeds the {limit} tokens that {role.model} was made for; lower it")


def _check_trainable(model: str, training: TrainingConfig) -> None:
    from cgd_ray.training.model.support import check_student  # imports torch

    check_student(model, training)
