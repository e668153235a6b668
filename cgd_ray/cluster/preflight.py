"""Refuses a run that cannot work, before any engine starts: models, prompts, contexts, libraries, keys. capacity.py looks at the cluster.

Each refusal is a ValueError of one line that names the setting, what it is, what it would have to be and what to do.
"""

import os
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from cgd_ray.config import Config, RoleConfig, TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.json_text import read_object
from cgd_ray.data.models import from_hub, is_hub_name, tensor_shapes
from cgd_ray.data.prompts import Message, load_prompts
from cgd_ray.engines.adapters import check_fits, read_adapter
from cgd_ray.engines.contexts import is_built_in, longest_context

OPTIONAL: tuple[tuple[str, str, str, Callable[[TrainingConfig], bool]], ...] = (
    ("mlflow", "trackers", "training.trackers names mlflow", lambda training: "mlflow" in training.trackers),
    ("wandb", "trackers", "training.trackers names wandb", lambda training: "wandb" in training.trackers),
    ("peft", "lora", "training.lora is set", lambda training: training.lora is not None),
)
"""Module, the extra of this package that brings it, and the setting that needs it."""
SETTINGS_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
"""Of a model's directory: each must be an object where it is there, or it would be a traceback of whoever reads it."""


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
        chat = check_model(name, role, messages)
        if name == "student":
            chat.example(prompts.revise_messages(question, "", ""), "")  # refused now where the template cannot show what training shows
            _check_trainable(role.model, config.training)


def check_model(name: str, role: RoleConfig, messages: list[Message]) -> Chat:
    """A model that runs here is loadable, and its context holds these messages; returns its tokenizer with its template."""
    _check_model_files(name, role.model)
    if role.adapter is not None:
        _check_adapter(name, role)
    chat = Chat.of(role)
    _check_context(name, role, chat, messages)
    return chat


def check_libraries(training: TrainingConfig) -> None:
    """Optional libraries that the settings ask for are installed, and DeepSpeed takes what is passed through to it."""
    for module, extra, setting, is_needed in OPTIONAL:
        if is_needed(training) and find_spec(module) is None:
            raise ValueError(f"{setting}, but the library {module} is not installed; pip install 'cgd-ray[{extra}]' on every node")
    if training.deepspeed:
        from cgd_ray.training.model.zero import check_settings  # torch and DeepSpeed take seconds to import

        check_settings(training)


def check_key(teacher: RoleConfig) -> None:
    """The key of the teacher's endpoint is there; for a Ray that is started on this machine and inherits this environment."""
    check_key_of(teacher, "teacher.api.key_variable")


def check_key_of(role: RoleConfig, setting: str) -> None:
    """The same of any model, whose key's variable is named by this setting."""
    variable = None if role.api is None else role.api.key_variable
    if variable is not None and not os.environ.get(variable, "").strip():
        raise ValueError(f"{setting} {variable} is not set in this environment; set it to the key of the endpoint")


def _check_model_files(name: str, model: str) -> None:
    directory = Path(model)
    if not directory.is_dir():
        if not is_hub_name(model):
            raise ValueError(f"{name}.model {model} does not exist; give a model directory or a hub name")
        return
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise ValueError(f"{name}.model {model} has no config.json; give a directory in Hugging Face format")
    weights = sorted(directory.glob("*.safetensors"))
    try:
        settings = {file: read_object(directory / file) for file in SETTINGS_FILES if (directory / file).is_file()}
        for file in weights:
            tensor_shapes(file)
    except ValueError as error:
        raise ValueError(f"{name}.model: {error}") from None
    if "auto_map" in settings["config.json"] and not is_built_in(settings["config.json"].get("model_type")):
        raise ValueError(f"{name}.model {model} asks to run its own code (auto_map in config.json); convert it to a built-in architecture")
    if not weights and from_hub(model) is None:  # those of the hub come when all else is checked
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
