"""Names what made each column, so that a column is reused when nothing behind it changed and never when something did.

A fingerprint covers the model, the words it was sent, how it decoded, and the fingerprint of the column before; not where, how fast or in
how much memory it ran. How to use: `turn_fingerprints(config)["critique"]`.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cgd_ray.config import MEMORY_ARGUMENTS, Config, RoleConfig, identity
from cgd_ray.data.json_text import read_object
from cgd_ray.data.models import COMMIT, HubModel, from_hub
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.data.records import Turn, short_hash
from cgd_ray.data.template import CLOCK, PINNED_DAY
from cgd_ray.data.thoughts import settled_thinking
from cgd_ray.engines.adapters import adapter_identity

IDENTITY_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
"""Where a model's chat template may be."""
SAMPLED_BYTES = 2**12
"""Read of each tensor: tells two trainings of any of them apart without reading hundreds of gigabytes."""


def turn_fingerprints(config: Config) -> dict[Turn, str]:
    """Fingerprint of each generated column under a config."""
    prompts = load_prompts(config.prompts)
    student, teacher = (_role_identity(role) for role in (config.student, config.teacher))
    attempt = _fingerprint(student, [prompts.student_system, prompts.solve])
    concluded = ["structured verdict"] if config.generation.structured_verdict else []
    critique = _fingerprint(teacher, [prompts.teacher_system, prompts.critique, *concluded], attempt)
    repeated = [] if config.generation.refine_attempts == 1 else [str(config.generation.refine_attempts)]
    refinement = _fingerprint(teacher, [prompts.refine, *repeated], critique)
    direct = _fingerprint(teacher, [prompts.teacher_system, prompts.solve])
    return {"attempt": attempt, "critique": critique, "refinement": refinement, **({"direct": direct} if config.wants_direct else {})}


def attempt_fingerprint(role: RoleConfig, prompts: Prompts) -> str:
    """Fingerprint of prompt-only answers of one model."""
    return _fingerprint(_role_identity(role), [prompts.student_system, prompts.solve])


def model_identity(model: str, revision: str | None = None) -> str:
    """A local directory's content, or a hub model's name with its commit ("unknown" where neither `revision` nor the cache has one)."""
    if (found := from_hub(model)) is not None:
        return str(found)
    directory = Path(model)
    if not directory.is_dir():
        commit = revision if revision is not None and COMMIT.fullmatch(revision) else _cached_commit(model)
        return str(HubModel(model, commit))
    digest = hashlib.sha256()
    for name in IDENTITY_FILES:
        if (directory / name).is_file():
            digest.update(name.encode() + b"\0" + (directory / name).read_bytes())
    for weights in sorted(directory.glob("*.safetensors")):
        digest.update(f"{weights.name}\0{weights.stat().st_size}\0".encode())
        for sample in _samples(weights):
            digest.update(sample)
    return digest.hexdigest()


def _role_identity(role: RoleConfig) -> dict[str, Any]:
    aside = {"model", "revision", "adapter", "placement", "api", "chat_template", "request_timeout_s", "stall_timeout_s"}
    settings = identity(role, exclude=aside)
    settings["engine"] = {name: value for name, value in settings["engine"].items() if name not in MEMORY_ARGUMENTS}
    if role.api is not None:
        return {**settings, "model": f"{role.model} at {role.api.base_url}", "request_fields": dict(role.api.request_fields)}
    if role.chat_template is not None and Path(role.chat_template).is_file():
        settings["chat_template"] = Path(role.chat_template).read_text(encoding="utf-8")
    settings |= settled(role, settings.get("chat_template", ""))
    if role.adapter is not None:
        settings["adapter"] = adapter_identity(role.adapter)
    if settings["engine"].get("dtype") == _saved_dtype(role.model):
        del settings["engine"]["dtype"]  # computed as it was saved, which goes without saying
    return {**settings, "model": model_identity(role.model, role.revision)}


def _saved_dtype(model: str) -> str:
    """The dtype that a local model's config names; empty where it names none."""
    file = Path(model) / "config.json"
    shape = read_object(file) if file.is_file() else {}
    return str(shape.get("dtype") or shape.get("torch_dtype") or "")


def settled(role: RoleConfig, template: str = "") -> dict[str, Any]:
    """What the project and not the settings has decided about a model's template: the day it is told, and the marks of thoughts.

    `template` is one from a file, beside what the model's own files hold. Empty for templates with neither.
    """
    files = [_model_file(role.model, name) for name in TEMPLATE_FILES]
    source = template + "".join(file.read_text(encoding="utf-8") for file in files if file is not None)
    vocabulary = _model_file(role.model, "tokenizer.json")
    tokens = "" if vocabulary is None else vocabulary.read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    if CLOCK in source:
        found["day"] = PINNED_DAY.date().isoformat()
    marks = settled_thinking(role.thinking, source, lambda mark: json.dumps(mark, ensure_ascii=False) in tokens)
    if role.thinking is None and marks is not None:
        found["marks"] = [marks.start, marks.end]
    return found


def _model_file(model: str, name: str) -> Path | None:
    """A file of a model's directory, or of a hub model that is in the cache."""
    if Path(model).is_dir():
        return Path(model) / name if (Path(model) / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(model, name)
    return Path(file) if isinstance(file, str) else None


def _fingerprint(role: dict[str, Any], words: list[str | None], upstream: str = "") -> str:
    return short_hash(json.dumps([role, words, upstream], sort_keys=True))


def _samples(weights: Path) -> Iterator[bytes]:
    """The header of a safetensors file (https://github.com/huggingface/safetensors#format), then the beginning of each tensor."""
    with weights.open("rb") as stream:
        num_bytes = int.from_bytes(stream.read(8), "little")
        if num_bytes > weights.stat().st_size:
            raise ValueError(f"{weights} is no safetensors file; copy the model again")
        header = stream.read(num_bytes)
        try:
            tensors = json.loads(header)
        except ValueError:
            raise ValueError(f"{weights} is no safetensors file; copy the model again") from None
        yield header
        first_byte = stream.tell()
        for name in sorted(tensors.keys() - {"__metadata__"}):
            start, end = tensors[name]["data_offsets"]
            stream.seek(first_byte + start)
            yield stream.read(min(end - start, SAMPLED_BYTES))


def _cached_commit(model: str) -> str:
    file = _model_file(model, "config.json")
    return "unknown" if file is None else file.parent.name
