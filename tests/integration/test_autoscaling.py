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

import pytest

from tests.integration.test_run import RAY
from tests.processes import free_port, stop

NODE = {"CPU": 4, "GPU": 2}
MOST_NODES = 3
HEAD_START_S = 180
# As KubeRay sets them: what a node needs is already in it, so the autoscaler neither logs in to it nor ends it after a late sign of life.
BARE_NODES = {"disable_node_updaters": True, "disable_launch_config_check": True, "worker_liveness_check": False}

DRIVER = """
import json, sys
from pathlib import Path
from cgd_ray.cluster.connection import connected
from cgd_ray.config import ClusterConfig, Config
from cgd_ray.generation.pipeline import generate
from cgd_ray.cluster.capacity import check_cluster
from tests.integration.test_groups import engine_with_gpus, make_config, prepared
if __name__ == "__main__":
    root, cluster = Path(sys.argv[1]), ClusterConfig.model_validate_json(sys.argv[2])
    placements = {"student": {"gpus_per_replica": 1}, "teacher": {"gpus_per_replica": 2}}
    roles = {role: {"model": "nobody/fake", "placement": placement} for role, placement in placements.items()}
    config = Config.model_validate({**make_config(root).model_dump(), **roles})
    with connected(cluster) as resources:
        waits = check_cluster(config, resources, {"generate"})
        manifest = generate(config, prepared(root), engine_factory=engine_with_gpus)
    print(json.dumps({"waits": waits, "rows": manifest["rows"], "failed": manifest["failed"]}))
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
        "provider": {"type": "fake_multinode", "gcs_address": address, "launch_multiple": True, **BARE_NODES},
        "max_workers": MOST_NODES,
        "idle_timeout_minutes": 5,
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
            env={**environment, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"},
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


def test_a_cluster_that_scales_from_zero_is_waited_for(scaled_from_zero: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = scaled_from_zero
    (tmp_path / "run").mkdir()
    cluster = {"address": address, "max_resources": {kind: MOST_NODES * count for kind, count in NODE.items()}}
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "run"), json.dumps(cluster)]
    done = subprocess.run(command, env={**environment, "PYTHONPATH": os.getcwd()}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    terms = "(student.placement.min_replicas 1 x 1 + teacher.placement.min_replicas 1 x 2)"
    assert told["waits"][0] == f"generate needs 3 GPUs {terms}, the cluster has 0 and may grow to 6: waiting for its autoscaler"
    assert (told["rows"], told["failed"]) == (8, 0)
