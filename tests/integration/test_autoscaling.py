"""A plan for more than there is waits for Ray's autoscaler, says so, and is carried out by the nodes that come.

The autoscaler is real; its provider is Ray's own for tests, whose nodes are processes of this machine with logical GPUs.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from tests.integration.test_run import RAY
from tests.processes import free_port, stop

NODE = {"CPU": 4, "GPU": 2}
MOST_NODES = 3
HEAD_START_S = 180
# As KubeRay sets them: what a node needs is already in it, so the autoscaler neither logs in to it nor ends it after a late sign of life.
BARE_NODES = {"disable_node_updaters": True, "disable_launch_config_check": True, "worker_liveness_check": False}
HEAD = {"RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID}

DRIVER = """
import json, sys, threading, time
from pathlib import Path
import ray
from cgd_ray.cluster.connection import connected
from cgd_ray.config import ClusterConfig, Config
from cgd_ray.generation.pipeline import generate
from cgd_ray.cluster.capacity import check_cluster
from tests.fakes import FakeEngines
from tests.integration.test_groups import engine_with_gpus, make_config, prepared

GROWN = {"requests_in_flight": 4, "cpus_per_replica": 0.5}

def gpus():
    return sum(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"])

def watch(seen, ended):
    while not ended.wait(0.5):
        seen.append(gpus())

if __name__ == "__main__":
    root, cluster, most = Path(sys.argv[1]), ClusterConfig.model_validate_json(sys.argv[2]), int(sys.argv[3])
    placements = {"student": {"gpus_per_replica": 1}, "teacher": {"gpus_per_replica": 2, "max_replicas": most}}
    if most > 1:
        placements = {role: {**placement, **GROWN} for role, placement in placements.items()}
    roles = {role: {"model": "nobody/fake", "placement": placement} for role, placement in placements.items()}
    config = Config.model_validate({**make_config(root).model_dump(), **roles, "generation": {"batch_size": 2}})
    seen, ended = [], threading.Event()
    with connected(cluster) as resources:
        waits = check_cluster(config, resources, {"generate"})
        threading.Thread(target=watch, args=(seen, ended)).start()
        factory = engine_with_gpus if most == 1 else FakeEngines(latency_s=0.5)
        manifest = generate(config, prepared(root, 8 if most == 1 else 400), engine_factory=factory)
        deadline = time.monotonic() + 90
        while most > 1 and gpus() and time.monotonic() < deadline:
            time.sleep(0.5)
        ended.set()
        left = gpus()
    print(json.dumps({"waits": waits, "rows": manifest["rows"], "failed": manifest["failed"], "most": max(seen), "left": left}))
"""


@pytest.fixture
def scaled_from_zero(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a head without CPUs, whose autoscaler may add nodes, and the environment that knows its token."""
    from ray._private.services import get_node_ip_address

    port, agent_port = free_port(), free_port()
    address = f"{get_node_ip_address()}:{port}"
    (tmp_path / "token").write_text(secrets.token_hex())
    lists = ("initialization_commands", "setup_commands", "cluster_synced_files")
    commands = (f"{kind}_{what}" for kind in ("head", "worker") for what in ("setup_commands", "start_ray_commands"))
    scaling = {
        "cluster_name": "logical",
        # all nodes have this machine's address, so only their ids tell them apart
        "provider": {"type": "fake_multinode", "gcs_address": address, "launch_multiple": True, "use_node_id_as_ip": True, **BARE_NODES},
        "max_workers": MOST_NODES,
        "idle_timeout_minutes": 0.1,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpus": {"resources": NODE, "node_config": {}, "min_workers": 0, "max_workers": MOST_NODES},
        },
        **{name: {} for name in ("auth", "file_mounts")},
        **{name: [] for name in (*lists, *commands)},
    }
    (tmp_path / "scaling.json").write_text(json.dumps(scaling))
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "RAY_USAGE_STATS_ENABLED": "0"}
    options = ["--num-cpus=0", "--num-gpus=0", "--include-dashboard=false", f"--port={port}", f"--dashboard-agent-listen-port={agent_port}"]
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(
            [RAY, "start", "--head", "--block", *options, f"--autoscaling-config={tmp_path / 'scaling.json'}"],
            env={**environment, **HEAD, "AUTOSCALER_UPDATE_INTERVAL_S": "1"},
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + HEAD_START_S
            while "Ray runtime started" not in (tmp_path / "head.log").read_text():
                assert process.poll() is None, (tmp_path / "head.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield address, environment
        finally:
            stop(process.pid)


def told_by_driver(scaled: tuple[str, dict[str, str]], root: Path, most_teachers: int) -> dict[str, Any]:
    address, environment = scaled
    (root / "run").mkdir()
    cluster = {"address": address, "max_resources": {kind: MOST_NODES * count for kind, count in NODE.items()}}
    command = [sys.executable, "-c", DRIVER, str(root / "run"), json.dumps(cluster), str(most_teachers)]
    done = subprocess.run(command, env={**environment, "PYTHONPATH": os.getcwd()}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_cluster_that_scales_from_zero_is_waited_for(scaled_from_zero: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    told = told_by_driver(scaled_from_zero, tmp_path, most_teachers=1)
    terms = "(student.placement.min_replicas 1 x 1 + teacher.placement.min_replicas 1 x 2)"
    assert told["waits"][0] == f"generate needs 3 GPUs {terms}, the cluster has 0 and may grow to 6: waiting for its autoscaler"
    assert (told["rows"], told["failed"]) == (8, 0)


@pytest.mark.slow
def test_pools_grow_from_no_nodes_to_all_and_give_them_back(scaled_from_zero: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    told = told_by_driver(scaled_from_zero, tmp_path, most_teachers=2)
    assert (told["rows"], told["failed"]) == (400, 0)
    assert told["most"] == MOST_NODES * NODE["GPU"]  # one student, and two teachers, each of which wants a node's GPUs
    assert told["left"] == 0
