"""Models of the Hugging Face hub: one commit for the whole run, in every node's cache before an engine or a worker holds a GPU.

A name on the hub means another model once its owner pushes; and where engines download, each does so while its GPU waits, and one that
the hub refuses for asking too often ends the run. So the commit is settled when the run begins and stays in the run directory's
contents.json; from then on the model is a directory of the cache. Its weights come once nothing else can be refused.
How to use: `config = pinned(config, roles, known)`, then with Ray there `fetch_weights(config, roles, say)`.
"""

import os
import socket
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from cgd_ray.cluster.connection import on_every_node
from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.models import COMMIT, HubModel, from_hub, is_hub_name

SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model")
WEIGHTS = "*.safetensors"
LEFT_OUT = ("*/*", "consolidated*")
"""Weights in other forms."""
ROLES = ("student", "teacher")


def pinned(config: Config, roles: Collection[str], known: Mapping[str, str]) -> Config:
    """The config with a directory of this machine's cache for each hub model of `roles`, without its weights; others have their commit.

    `known` is the run's contents.json: a commit that is in there stays. Raises ValueError when the hub does not give a model.
    """
    update: dict[str, RoleConfig] = {}
    for name in ROLES:
        role: RoleConfig = getattr(config, name)
        if role.api is not None or not is_hub_name(role.model):
            continue
        revision = _known_commit(role.model, known.get(f"{name}.model", "")) or role.revision
        asked = {"revision": revision} if name not in roles else {"model": _fetched(name, role.model, revision, SETTINGS)}
        update[name] = role.model_copy(update=asked)
    return config.model_copy(update=update)


def fetch_weights(config: Config, roles: Collection[str], say: Callable[[str], None]) -> None:
    """Bring the hub's models into every node's cache, at the same place as here. Raises ValueError that names a node where that fails."""
    for name in roles:
        directory = getattr(config, name).model
        if (found := from_hub(directory)) is None:
            continue
        say(f"{name}.model {found} is fetched where it is not in the cache yet")
        for host, problem in on_every_node(fetch, name, found, directory):
            if problem is not None:
                raise ValueError(f"node {host}: {problem}")


def fetch(role: str, model: HubModel, expected: str) -> tuple[str, str | None]:
    """Fetch a model to the node where this is called; returns the node, and what went wrong."""
    host = socket.gethostname()
    try:
        directory = _fetched(role, model.name, model.commit, (*SETTINGS, WEIGHTS))
    except ValueError as error:
        return host, str(error)
    if directory != expected:
        return host, f"the hub's cache has it in {directory}, and in {expected} where the driver is; set HF_HOME alike before Ray starts"
    if not any(Path(directory).glob(WEIGHTS)):
        return host, f"{role}.model {model} has no {WEIGHTS} weights; convert them, other formats can run code when loaded"
    return host, None


def _known_commit(model: str, content: str) -> str | None:
    """The commit of what a run has begun with, where that is this model of the hub."""
    name, _, commit = content.rpartition("@")
    return commit if name == model and COMMIT.fullmatch(commit) else None


def _fetched(role: str, model: str, revision: str | None, patterns: Collection[str]) -> str:
    """The directory in the cache, with these files; the hub is not asked where they are there and the commit is known."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(model, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(LEFT_OUT)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if "HTTP" not in line and "Client Error" not in line), type(error).__name__)
        offline = "; HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
        at = "" if revision is None else f" at {revision}"
        raise ValueError(
            f"{role}.model {model}{at} is no directory and cannot be had from the hub ({reason.rstrip('.')}{offline}); check the name and "
            "revision, set HF_TOKEN where it is gated, or give a directory"
        ) from None
