"""Refuses a run that cannot work, before any engine starts: models, prompts, contexts, the cluster's resources.

Each refusal is a ValueError of one line that names the setting, what it is, what it would have to be and what to do.
"""

import json
import os
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from cgd_ray.adapters import check_fits, read_adapter
from cgd_ray.chat import Chat
from cgd_ray.cluster import Resources
from cgd_ray.config import Config, PlacementConfig, RoleConfig
from cgd_ray.prompts import Message, load_prompts
from cgd_ray.training.extras import check_installed


def check_models(config: Config, problems: pa.Table) -> None:
    """Models that run here are loadable, and their contexts hold at least the shortest problem's prompts."""
    prompts = load_prompts(config.prompts)
    question = min(problems["question"].to_pylist(), key=len)
    shortest = {
        "student": prompts.solve_messages(question, prompts.student_system),
        "teacher": prompts.refine_messages(question, "", ""),
    }
    for name, messages in shortest.items():
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


def check_libraries(config: Config) -> None:
    """What the settings ask for is installed."""
    check_installed(config.training)


def check_key(teacher: RoleConfig) -> None:
    """The key of the teacher's endpoint is there; for a Ray that is started on this machine and inherits this environment."""
    variable = None if teacher.api is None else teacher.api.key_variable
    if variable is not None and not os.environ.get(variable, "").strip():
        raise ValueError(f"teacher.api.key_variable {variable} is not set in this environment; set it to the key of the endpoint")


def check_cluster(config: Config, resources: Resources, phases: Collection[str]) -> list[str]:
    """No phase ("generate", "train", "evaluate") needs more GPUs or CPUs than the cluster can have; returns what the run will wait for."""
    waits = []
    for phase, cpus, gpus in _demands(config):
        if phase not in phases:
            continue
        for kind, wanted in (("GPU", gpus), ("CPU", cpus)):
            present, most = resources.present.get(kind, 0), resources.most.get(kind, 0)
            if wanted <= present:
                continue
            needs = f"{phase} needs {wanted:g} {kind}s ({_arithmetic(config, phase, kind)})"
            if wanted > most:
                raise ValueError(f"{needs}, the cluster has {most:g}; lower them or add nodes")
            waits.append(f"{needs}, the cluster has {present:g} and may grow to {most:g}: waiting for its autoscaler")
    return waits


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
    except ValueError as error:
        raise ValueError(f"{name}.model {model} has a broken config.json ({error}); copy the model again") from None
    if "auto_map" in model_config:
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
    limit = getattr(chat.tokenizer, "model_max_length", role.context_length)
    if role.context_length > limit:
        raise ValueError(f"{name}.context_length {role.context_length} exceeds the {limit} tokens that {role.model} was made for; lower it")


def _demands(config: Config) -> list[tuple[str, float, float]]:
    """(phase, CPUs, GPUs) at the fewest replicas each phase can run with."""
    student, teacher = config.student.placement, config.teacher.placement
    workers, training = _num_workers(config), config.training
    answering = config.answering_student
    answers = answering.placement if answering is not None else None
    return [
        (
            "generate",
            student.min_replicas * student.cpus_per_replica + teacher.min_replicas * teacher.cpus_per_replica,
            student.min_replicas * student.gpus_of_replica + teacher.min_replicas * teacher.gpus_of_replica,
        ),
        (
            "train",
            workers * training.cpus_per_worker + (answers.min_replicas * answers.cpus_per_replica if answers else 0),
            workers * int(training.use_gpu) + (answers.min_replicas * answers.gpus_of_replica if answers else 0),
        ),
        ("evaluate", student.min_replicas * student.cpus_per_replica, student.min_replicas * student.gpus_of_replica),
    ]


def _num_workers(config: Config) -> int:
    """The fewest that will do; the most where checkpoints answer beside them, as an elastic training takes all that it can get."""
    fewest, most = config.training.worker_range
    return fewest if config.answering_student is None else most


def _arithmetic(config: Config, phase: str, kind: str) -> str:
    if phase == "train":
        each = config.training.cpus_per_worker if kind == "CPU" else int(config.training.use_gpu)
        workers = f"training.num_workers {_num_workers(config)} x {each:g}"
        answering = config.answering_student
        return workers if answering is None else f"{workers} + {_replicas('training.validation.answers', answering.placement, kind)}"
    names = ("student", "teacher") if phase == "generate" else ("student",)
    return " + ".join(_replicas(name, getattr(config, name).placement, kind) for name in names)


def _replicas(name: str, placement: PlacementConfig, kind: str) -> str:
    each = placement.cpus_per_replica if kind == "CPU" else placement.gpus_of_replica
    return f"{name}.placement.min_replicas {placement.min_replicas} x {each:g}"
