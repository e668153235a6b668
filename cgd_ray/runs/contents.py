"""What is behind a config's paths, so that a run belongs to what it was made from and not to where that lay.

A job that is submitted again finds its models in another copy of its working directory. Problems are compared by the work lists, and
wording by prompts.yaml; here are the others.
How to use: `run.check(config, contents_of(config))`; `with_models(config, roles)` is the config with the hub models that its run has.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from cgd_ray.cluster.hub import pinned
from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir, file_sha256, read_json
from cgd_ray.engines.adapters import adapter_identity
from cgd_ray.generation.fingerprints import model_identity

IDENTITIES: Mapping[str, Callable[[str], str]] = {
    "adapter": adapter_identity,
    "chat_template": lambda path: file_sha256(Path(path)),
}
"""Further settings of a role that are paths, and what names their content."""


def with_models(config: Config, roles: Collection[str]) -> Config:
    """The config with directories of the cache for models of the hub, at the commits that its run has begun with if it has begun."""
    return pinned(config, roles, read_json(RunDir(config.run_dir).contents) or {})


def contents_of(config: Config) -> dict[str, str]:
    """A name of the content for each path setting, by its dotted key; none for what cannot be read, which is refused elsewhere."""
    found: dict[str, str] = {}
    for name in ("student", "teacher"):
        role = getattr(config, name)
        if role.api is not None:
            continue
        with suppress(ValueError, OSError):
            found[f"{name}.model"] = model_identity(role.model, role.revision)
        for setting, identity in IDENTITIES.items():
            path = getattr(role, setting)
            if path is not None:
                with suppress(ValueError, OSError):
                    found[f"{name}.{setting}"] = identity(path)
    if config.records is not None:
        with suppress(OSError):  # unfinished ones have no manifest, and grow
            found["records"] = file_sha256(Path(config.records) / "manifest.json")
    return found
