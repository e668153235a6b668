"""What `ray up` does on the machines themselves: the rendered commands over ssh, on nodes of a lab that stand in for rented ones.

Ray's local provider takes the place of the cloud's; mounting the storage is left out, since the nodes have it already.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from cgd_ray.cluster.rendering import render
from cgd_ray.config import read_config
from tests.cluster.lab import CLIENT, HEAD, NETWORK, PATIENCE_S, RAY, REPOSITORY, SHARED, Lab, lab, why_not
from tests.cluster.packages import SEEN, installed

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]

RECIPE = "jobs/configs/recipes/llama31_8b_published.yaml"
NODES, OPERATOR = (2, 3), 4
"""Numbers of the lab's machines; the last is whose owner brings the others up."""
HOME = "/run/home"
IMAGE = """
ssh-keygen -A
printf '#!/bin/sh\\nexec "$@"\\n' > /usr/local/bin/sudo
cp /usr/local/bin/sudo /usr/local/bin/mount.nfs4
chmod +x /usr/local/bin/*
"""
"""Beside the packages: what a machine's image has, `sudo` and NFS."""
SSHD = (
    SEEN
    + f"""
mkdir -p /run/sshd {HOME}/.ssh
cp /mnt/shared/key.pub {HOME}/.ssh/authorized_keys
chmod -R go= {HOME}
mkdir -p /mnt/etc
sed 's#^root:.*#root:x:0:0::{HOME}:/bin/bash#' /etc/passwd > /mnt/etc/passwd
mount --bind /mnt/etc/passwd /etc/passwd
ip route add default via {CLIENT}
"""
)
"""A machine that is reached by ssh, whose home is its own."""
MONITOR = "/tmp/ray/session_latest/logs/monitor.out"
CLUSTER = SHARED / "cluster.yaml"
MACHINES = tuple(f"{part}={{type: local, cpus: 192, gpus: 8}}" for part in ("head", "student", "teacher", "trainer"))


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    packages = REPOSITORY / "build" / "ssh"
    if (problem := installed(packages, ("openssh-server", "openssh-client", "rsync"), IMAGE)) is not None:
        pytest.skip(f"ssh's packages cannot be installed: {problem}")
    with lab(tmp_path_factory.mktemp("lab")) as machines:
        machines.environment["PACKAGES"] = str(packages)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(machines.shared / "key")], check=True)
        for number in (1, *NODES, OPERATOR):
            machines.start(number, ["/usr/sbin/sshd", "-D", "-e"], SSHD)
        yield machines


def for_machines_that_are_there(text: str) -> dict[str, Any]:
    """What is rendered for a cloud, with Ray's local provider in its place."""
    config: dict[str, Any] = yaml.safe_load(text)
    for setting in ("available_node_types", "head_node_type", "max_workers"):
        del config[setting]
    config["provider"] = {"type": "local", "head_ip": HEAD, "worker_ips": [f"{NETWORK}.{number}" for number in NODES]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(SHARED / "key")}
    return config


def ray(machines: Lab, *words: str) -> str:
    """A command of Ray's on the operator's machine; what it has said."""
    environment = {"HOME": HOME, "RAY_AUTH_TOKEN_PATH": "", "PYTHONPATH": ""}
    done = machines.on_node(OPERATOR, [RAY, words[0], "--yes", CLUSTER, *words[1:]], **environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def living(machines: Lab) -> list[int]:
    """The machines on which Ray runs."""
    return [number for number in (1, *NODES) if machines.on_node(number, ["pgrep", "-x", "raylet"]).returncode == 0]


def wait_until(condition: Callable[[], bool], machines: Lab) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, machines.on_node(1, ["tail", "-n", "60", MONITOR]).stdout
        time.sleep(1)


def test_the_rendered_commands_bring_up_machines_that_ask_for_the_token_and_take_them_down(machines: Lab) -> None:
    places = (f"environment={REPOSITORY}/.venv", "nfs=nowhere:/", f"shared={SHARED}", "region=us-west-2", "subnet=s", "security_group=g")
    text = render(read_config(RECIPE, [f"run_dir={SHARED}/run"]), "ray-up-aws", [*places, *MACHINES])
    (machines.shared / CLUSTER.name).write_text(yaml.safe_dump(for_machines_that_are_there(text)))
    machines.on_node(OPERATOR, ["install", "-D", "-m", "600", SHARED / "token", f"{HOME}/.ray/auth_token"])
    ray(machines, "up", "--no-config-cache")
    wait_until(lambda: len(living(machines)) == len(NODES), machines)  # Ray's local provider counts the head among its workers
    jobs = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "http://127.0.0.1:8265/api/jobs/"]
    assert machines.on_node(1, jobs).stdout == "401"
    token = (machines.shared / "token").read_text()
    assert machines.on_node(1, [*jobs, "--header", f"Authorization: Bearer {token}"]).stdout == "200"
    for number in living(machines):
        assert machines.on_node(number, ["stat", "--format=%a", f"{HOME}/.ray/auth_token"]).stdout == "600\n"
    ray(machines, "down")
    wait_until(lambda: not living(machines), machines)
