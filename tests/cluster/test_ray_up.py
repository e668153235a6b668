"""What is rendered for `ray up` on AWS: Ray bootstraps it, starts nodes of each kind and ends them; moto stands in for AWS."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import free_port, stop

pytestmark = pytest.mark.cluster
PACKAGES = ("moto[server]==5.2.5", "boto3==1.44.8")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which AWS is the stand-in."""
    packages, port = tmp_path_factory.mktemp("packages"), free_port()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), *PACKAGES]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no moto: {(done.stderr.strip().splitlines() or ['pip has failed'])[-1]}")
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{os.getcwd()}", "HOME": str(packages), "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    environment |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    with (packages / "moto.log").open("w") as log:
        server = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(server, env=environment, stdout=log, stderr=log)
        try:
            wait_for_answers(f"127.0.0.1:{port}")
            yield environment
        finally:
            stop(process.pid)


def wait_for_answers(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"http://{address}/moto-api/", timeout=2):
            return
        time.sleep(0.2)
    raise AssertionError("moto does not answer")


def test_ray_bootstraps_the_cluster_starts_each_kind_of_node_and_ends_them(cloud: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.cluster.bringing_up"], env=cloud, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["left"] == []
    assert {name: (node["type"], node["most"]) for name, node in told["nodes"].items()} == {
        "head": ("m5.4xlarge", 0),
        "student": ("g5.4xlarge", 8),
        "teacher": ("g5.48xlarge", 1),
        "trainer": ("g5.48xlarge", 2),
    }
    for node in told["nodes"].values():
        assert (node["groups"], node["subnet"]) == ([told["group"]], told["subnet"])
    assert told["everyone"] == [], "a group that Ray has made lets in everyone"
