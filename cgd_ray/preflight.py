"""Refuses a run that cannot work, before any engine starts: models, prompts, contexts, the cluster's resources.

Each refusal is a ValueError of one line that names the setting, what it is, what it would have to be and what to do.
"""

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from cgd_ray.adapters import check_fits, read_adapter
from cgd_ray.chat import Chat
from cgd_ray.cluster import Resources
from cgd_ray.config import Config, PlacementConfig, RoleConfig, TrainingConfig
from cgd_ray.prompts import Message, load_prompts
from cgd_ray.training.extras import check_installed

PHASES = ("generate", "train", "live", "evaluate")


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
    """No phase ("generate", "train", "live", "evaluate") needs more GPUs or CPUs than the cluster can have.

    Returns what the run will wait for. Where generation and training are live together, their most must fit beside each other: a training
    that has grown into an engine's place would wait for that engine's records for ever.
    """
    waits = []
    for phase in (phase for phase in PHASES if phase in phases):
        demands = _demands(config, phase)
        for kind in ("GPU", "CPU"):
            present, most = resources.present.get(kind, 0), resources.most.get(kind, 0)
            wanted = sum(demand.count * demand.of(kind) for demand in demands)
            if wanted <= present:
                continue
            terms = " + ".join(f"{demand.setting} {demand.count} x {demand.of(kind):g}" for demand in demands)
            needs = f"{phase} needs {wanted:g} {kind}s ({terms})"
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


@dataclass(frozen=True, kw_only=True)
class _Demand:
    """What one kind of process needs."""

    setting: str
    """What says how many of them there are."""
    count: int
    cpus: float
    """Of each."""
    gpus: float

    def of(self, kind: str) -> float:
        """CPUs or GPUs of each."""
        return self.cpus if kind == "CPU" else self.gpus


def _demands(config: Config, phase: str) -> list[_Demand]:
    """What a phase needs, at the fewest replicas and workers that it can run with; at the most where engines and workers run side by side.

    A training that may grow takes all that it can get, and the engines beside it wait for it in vain.
    """
    training, answering = config.training, config.answering_student
    bound: Literal["min_replicas", "max_replicas"] = "max_replicas" if phase == "live" else "min_replicas"
    student, teacher = (_engines(name, getattr(config, name).placement, bound) for name in ("student", "teacher"))
    if phase == "live":
        return [student, teacher, _workers(training, "most")]
    if phase == "train":
        if answering is None:
            return [_workers(training, "fewest")]
        return [_workers(training, "most"), _engines("training.validation.answers", answering.placement, bound)]
    return [student, teacher] if phase == "generate" else [student]


def _engines(name: str, placement: PlacementConfig, bound: Literal["min_replicas", "max_replicas"]) -> _Demand:
    return _Demand(
        setting=f"{name}.placement.{bound}",
        count=getattr(placement, bound),
        cpus=placement.cpus_per_replica,
        gpus=placement.gpus_of_replica,
    )


def _workers(training: TrainingConfig, bound: Literal["fewest", "most"]) -> _Demand:
    fewest, most = training.worker_range
    return _Demand(
        setting="training.num_workers",
        count=fewest if bound == "fewest" else most,
        cpus=training.cpus_per_worker,
        gpus=int(training.use_gpu),
    )
