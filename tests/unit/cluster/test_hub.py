"""A hub model is one commit for a whole run, whatever is pushed meanwhile, and nobody asks the hub for what is there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.data.models import HubModel, from_hub, is_hub_name
from tests.hub import Hub

STUDENT = Path("examples/tinymath/models/student").absolute()
NAME = "nobody/student"
PINNING = """
import json, sys
from cgd_ray.cluster.hub import fetch, pinned
from cgd_ray.config import Config
from cgd_ray.data.models import from_hub
from cgd_ray.runs.contents import contents_of
roles, known, revision, weights = json.loads(sys.argv[1])
role = {"model": "nobody/student", "revision": revision}
config = Config.model_validate({"run_dir": "/r", "problems": {"path": "p"}, "student": role, "teacher": {"model": "nobody/teacher"}})
try:
    config = pinned(config, roles, known)
    student = config.student.model
    found = {"student": student, "contents": contents_of(config)}
    if weights:
        found["problem"] = fetch("student", from_hub(student), student)[1]
except ValueError as error:
    found = {"refused": str(error)}
print(json.dumps(found))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


class Node:
    """A machine with a cache of its own."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.home = home
        self.environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}

    def pin(
        self, known: dict[str, str] | None = None, revision: str | None = None, weights: bool = False, roles: tuple[str, ...] = ("student",)
    ) -> dict[str, Any]:
        """What a run that begins, or goes on with what is known, makes of its models."""
        command = [sys.executable, "-c", PINNING, json.dumps([roles, known or {}, revision, weights])]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def test_a_run_keeps_the_commit_that_it_began_with_also_where_the_cache_is_empty(hub: Hub, tmp_path: Path) -> None:
    first = hub.push(NAME, STUDENT)
    node = Node(hub, tmp_path / "a")
    begun = node.pin()
    assert from_hub(begun["student"]) == HubModel(NAME, first)
    assert begun["contents"]["student.model"] == f"{NAME}@{first}"
    assert not list(Path(begun["student"]).glob("*.safetensors")), "weights come later"
    hub.push(NAME, STUDENT)
    known = begun["contents"] | {"teacher.model": f"nobody/teacher@{'b' * 40}"}
    elsewhere = Node(hub, tmp_path / "b").pin(known, weights=True)
    assert from_hub(elsewhere["student"]) == HubModel(NAME, first)
    assert elsewhere["problem"] is None
    assert list(Path(elsewhere["student"]).glob("*.safetensors"))
    assert elsewhere["contents"] == known, "the teacher is not needed, and is the one that made the records"
    assert not any("teacher" in path for path in hub.requests)


def test_a_model_that_is_there_is_not_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    commit = hub.push(NAME, STUDENT)
    node = Node(hub, tmp_path)
    known = node.pin(weights=True)["contents"]
    hub.requests.clear()
    assert node.pin(known, weights=True)["contents"]["student.model"] == f"{NAME}@{commit}"
    assert [path for path in hub.requests if NAME in path] == [], hub.requests


def test_a_revision_says_which_commit_a_run_begins_with(hub: Hub, tmp_path: Path) -> None:
    first = hub.push(NAME, STUDENT)
    hub.push(NAME, STUDENT)
    assert Node(hub, tmp_path).pin(revision=first)["contents"]["student.model"] == f"{NAME}@{first}"


def test_what_the_hub_does_not_give_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.push(NAME, STUDENT)
    node = Node(hub, tmp_path)
    refused = node.pin(roles=("teacher",))["refused"]
    assert refused.startswith("teacher.model nobody/teacher is no directory and cannot be had from the hub (")
    assert refused.endswith("); check the name and revision, set HF_TOKEN where it is gated, or give a directory")
    assert "\n" not in refused
    assert "student.model nobody/student at v9 is no directory" in node.pin(revision="v9")["refused"]
    node.environment["HF_HUB_OFFLINE"] = "1"
    assert "; HF_HUB_OFFLINE is set)" in node.pin()["refused"]


def test_weights_that_are_not_safetensors_are_refused_and_never_fetched(hub: Hub, tmp_path: Path) -> None:
    shutil.copytree(STUDENT, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    commit = hub.push(NAME, tmp_path / "model")
    problem = Node(hub, tmp_path / "home").pin(weights=True)["problem"]
    assert problem.startswith(f"student.model {NAME}@{commit} has no *.safetensors weights; convert them")
    assert not any(path.endswith(".bin") for path in hub.requests)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/c/models--a--b.c/snapshots/{'0' * 40}", HubModel("a/b.c", "0" * 40)),
        (f"/c/models--gpt2/snapshots/{'1' * 40}", HubModel("gpt2", "1" * 40)),
        (f"/c/models--a--b/snapshots/{'0' * 40}/sub", None),
        ("/c/models--a--b/snapshots/main", None),
        ("a/b", None),
        ("/", None),
    ],
)
def test_the_caches_directories_say_what_they_hold(path: str, found: HubModel | None) -> None:
    assert from_hub(path) == found


def test_paths_are_no_names_of_the_hub(tmp_path: Path) -> None:
    assert [is_hub_name(name) for name in ("Qwen/Qwen3-0.6B", "gpt2")] == [True, True]
    paths = [str(tmp_path), "/no/where", "./a", "../a", "~/a", "a/b/c", "a/b/", "$HOME/a", ""]
    assert [is_hub_name(path) for path in paths] == [False] * len(paths)
