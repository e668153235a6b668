"""What is rendered for rented machines: valid for Ray's own schema, closed to strangers, without secrets, with room for the config."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cgd_ray.cli import main
from cgd_ray.cluster.rendering import render
from cgd_ray.config import read_config
from tests.processes import begun

RECIPE = "jobs/configs/recipes/llama31_8b_published.yaml"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
MACHINES = (
    "head={type: head-16, cpus: 16}",
    "student={type: small-1, cpus: 16, gpus: 1, spot: true}",
    "teacher={type: large-8, cpus: 192, gpus: 8}",
    "trainer={type: large-8, cpus: 192, gpus: 8}",
)
GIVEN = {
    "ray-up-aws": ("image=registry.example/cgd:1", "nfs=fs-1.example:/", "region=us-west-2", "subnet=subnet-1", "security_group=sg-1"),
    "ray-up-gcp": ("environment=/shared/env", "nfs=10.0.0.2:/x", "project=p", "zone=us-west1-a", "subnetwork=s", "source_image=p/images/x"),
    "skypilot": ("environment=/shared/env", "nfs=10.0.0.2:/x", "cloud=aws/us-west-2", "accelerators=H100:8", "cpus=96", "nodes=2"),
}
CLOUDS = ("ray-up-aws", "ray-up-gcp")


def rendered(kind: str, *values: str, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    machines = MACHINES if kind in CLOUDS else ()
    text = render(read_config(RECIPE, ("run_dir=/shared/runs/a", *overrides)), kind, [*GIVEN[kind], *machines, *values])
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize("kind", CLOUDS)
def test_ray_finds_its_clusters_config_valid_and_a_planted_error_not(kind: str) -> None:
    from jsonschema import ValidationError  # type: ignore[import-untyped]
    from ray.autoscaler._private.util import validate_config

    config = rendered(kind)
    defaults = {"upscaling_speed": 1.0, "cluster_synced_files": [], "head_setup_commands": [], "worker_setup_commands": []}
    validate_config({**defaults, **config})
    with pytest.raises((ValueError, ValidationError)):
        validate_config({**defaults, **config, "available_node_kinds": {}})
    with pytest.raises((ValueError, ValidationError)):
        validate_config({**defaults, **config, "head_node_type": "tail"})


@pytest.mark.parametrize("kind", CLOUDS)
def test_nobody_reaches_the_cluster_but_through_ssh_and_with_a_token(kind: str) -> None:
    config = rendered(kind)
    (start,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start
    assert "RAY_AUTH_MODE=token" in config["setup_commands"][-1]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_aws_uses_the_security_group_that_it_is_given_and_encrypted_disks() -> None:
    for node in rendered("ray-up-aws")["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"] == ["sg-1"]
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert node["node_config"]["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


@pytest.mark.parametrize("kind", CLOUDS)
def test_each_part_has_nodes_from_none_to_as_many_as_the_config_may_use(kind: str) -> None:
    nodes = rendered(kind)["available_node_types"]
    assert {name: (node.get("min_workers"), node["max_workers"]) for name, node in nodes.items()} == {
        "head": (0, 0),
        "student": (0, 8),
        "teacher": (0, 1),
        "trainer": (0, 2),
    }
    spot = {"ray-up-aws": "InstanceMarketOptions", "ray-up-gcp": "provisioningModel"}[kind]
    assert [name for name, node in nodes.items() if spot in str(node)] == ["student"]


@pytest.mark.parametrize("kind", [*CLOUDS, "skypilot"])
def test_variables_are_read_from_a_file_of_the_nodes_and_written_nowhere(kind: str) -> None:
    config = rendered(kind, "variables=/shared/variables")
    commands = [config["run"]] if kind == "skypilot" else [config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]]
    assert all("set -a; . /shared/variables; set +a" in command for command in commands)


@pytest.mark.parametrize("kind", [*CLOUDS, "skypilot"])
def test_shellcheck_finds_nothing_in_what_nodes_run(kind: str, tmp_path: Path) -> None:
    config = rendered(kind, "variables=/shared/variables")
    names = ("setup", "run") if kind == "skypilot" else ("initialization_commands", "head_start_ray_commands", "worker_start_ray_commands")
    for name in names:
        lines = config[name] if isinstance(config[name], list) else [config[name]]
        script = tmp_path / f"{name}.sh"
        script.write_text("#!/bin/bash\n" + "\n".join(lines) + "\n")
        done = subprocess.run([SHELLCHECK, "--exclude=SC1091", script], capture_output=True, text=True)  # 1091: the variables' file
        assert done.returncode == 0, done.stdout


RAY = """#!/bin/bash
# a node that stays until it is asked to end
trap 'exit 0' TERM
touch "$RUN_DIR/started-$SKYPILOT_NODE_RANK"
while :; do sleep 0.05; done
"""
CGD = '#!/bin/bash\n[ "$RAY_ADDRESS" = 10.0.0.1:6479 ] && [ -s "$2" ] || exit 9\ncp "$2" "$RUN_DIR/seen.yaml"; exit "$CODE"\n'
PYTHON = '#!/bin/bash\ncat > "$RUN_DIR/wait.py"; until [ -e "$RUN_DIR/started-1" ]; do sleep 0.05; done\n'


@pytest.mark.parametrize("code", ["0", "2"])
def test_a_task_of_skypilots_ends_as_the_run_ended(code: str, tmp_path: Path) -> None:
    run_dir, bin = tmp_path / "shared" / "run", tmp_path / "environment" / "bin"
    for directory in (run_dir, bin):
        directory.mkdir(parents=True)
    for name, content in {"ray": RAY, "cgd": CGD, "python": PYTHON}.items():
        (bin / name).write_text(content)
        (bin / name).chmod(0o755)
    task = rendered("skypilot", f"environment={bin.parent}", f"shared={run_dir.parent}", overrides=(f"run_dir={run_dir}",))
    sky = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_TASK_ID": "sky-1", "RAY_AUTH_TOKEN": "t"}
    nodes = []
    for rank in ("0", "1"):
        told = {**os.environ, **sky, "SKYPILOT_NODE_RANK": rank, "RUN_DIR": str(run_dir), "CODE": code}
        nodes.append(begun(["bash", "-c", task["run"]], env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        time.sleep(0.1)
    outputs = [node.communicate(timeout=60)[0].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [int(code), 0], outputs
    assert read_config(str(run_dir / "seen.yaml")).run_dir == str(run_dir)
    compile((run_dir / "wait.py").read_text(), "wait.py", "exec")


def test_a_task_of_skypilots_leaves_its_own_ray_alone() -> None:
    assert "ray stop" not in rendered("skypilot")["run"].replace("never `ray stop`", "")


@pytest.mark.parametrize(
    ("kind", "values", "overrides", "message"),
    [
        ("moon", (), (), "cgd: --kind moon is unknown; it may be kuberay, slurm, ray-up-aws, ray-up-gcp, skypilot\n"),
        ("ray-up-aws", ("region=",), (), "cgd: setting region is "),
        ("ray-up-aws", ("environment=/shared/env",), (), "cgd: config: image and environment are both given or both missing; set "),
        ("ray-up-aws", ("teacher=null",), (), "cgd: teacher has no machine; set teacher={type: TYPE, cpus: N, gpus: N}\n"),
        (
            "ray-up-gcp",
            ("teacher={type: small, cpus: 8, gpus: 4}",),
            (),
            "cgd: teacher.placement asks for 8 GPUs on one node, and a node of teacher has 4; give it larger nodes\n",
        ),
        ("ray-up-gcp", (), ("run_dir=/tmp/x",), "cgd: run_dir /tmp/x is not in /shared, which all nodes mount; move it there"),
        ("ray-up-gcp", ("nfs=/local",), (), "cgd: setting nfs is '/local': "),
        (
            "skypilot",
            (),
            ("run_dir=s3://b/x", "working_dir=/shared/w"),
            "cgd: run_dir s3://b/x is a URL, and this kind of script keeps its",
        ),
        ("skypilot", ("accelerators=L4:1",), (), "cgd: teacher.placement asks for 8 GPUs on one node, and a node of teacher has 1"),
    ],
)
def test_what_does_not_fit_is_one_line(
    kind: str, values: tuple[str, ...], overrides: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [*GIVEN.get(kind, ()), *(MACHINES if kind in CLOUDS else ()), *values]
    told = [word for value in given for word in ("--set", value)]
    assert main(["cluster", "render", RECIPE, "run_dir=/shared/runs/a", *overrides, "--kind", kind, *told]) == 2
    err = capfd.readouterr().err
    assert err.startswith(message), err
    assert err.count("\n") == 1
