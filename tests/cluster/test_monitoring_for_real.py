"""Debian's own Prometheus: promtool finds the alerts right, and the server answers every query of the dashboard of a job that runs."""

import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.data.rundir import RunDir
from cgd_ray.generation.pipeline import generate
from cgd_ray.training.observe.gauges import GAUGES, StepGauges
from tests.fakes import FakeEngines
from tests.integration.test_generation import make_config, write_problems
from tests.processes import free_port, stop
from tests.unit.cluster.test_monitoring import MONITORING, queries

pytestmark = pytest.mark.cluster
PATIENCE_S = 90.0
WITHOUT_A_GPU_OR_AN_ENDPOINT = ("gpus_utilization", "gram_", "cgd_cost", "failed_rows")
"""In queries that have nothing to tell here."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the two programs."""
    directory = tmp_path_factory.mktemp("prometheus")
    fetch = "apt-get download prometheus && dpkg -x prometheus_*.deb ."
    done = subprocess.run(["bash", "-c", fetch], cwd=directory, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no Prometheus: {(done.stderr.strip().splitlines() or ['apt-get has failed'])[-1]}")
    return directory / "usr" / "bin"


def test_promtool_finds_the_alerts_right_and_sees_them_fire(prometheus: Path, tmp_path: Path) -> None:
    shutil.copy(MONITORING / "alerts.yaml", tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yaml"), tmp_path)
    for command in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
        done = subprocess.run([prometheus / "promtool", *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    planted = (tmp_path / "alerts.yaml").read_text().replace("rate(ray_cgd_preemptions_total[5m])", "rate(ray_cgd_preemptions_total[5])")
    (tmp_path / "alerts.yaml").write_text(planted)
    assert subprocess.run([prometheus / "promtool", "check", "rules", "alerts.yaml"], cwd=tmp_path, capture_output=True).returncode == 1


@pytest.fixture
def ray_of_metrics(no_ray: None) -> Iterator[Path]:
    """A Ray that reports every second; yields the file in which it tells Prometheus where to look."""
    import ray

    settings = {"metrics_report_interval_ms": 1000}
    context = ray.init(address="local", num_cpus=4, include_dashboard=True, log_to_driver=False, _system_config=settings)
    yield Path(context.address_info["session_dir"]).parent / "prom_metrics_service_discovery.json"
    ray.shutdown()


@pytest.fixture
def server(prometheus: Path, ray_of_metrics: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes this Ray, as docs/clusters.md has it."""
    scrape = {"job_name": "ray", "file_sd_configs": [{"files": [str(ray_of_metrics)], "refresh_interval": "2s"}]}
    config = {"global": {"scrape_interval": "1s"}, "rule_files": [str(MONITORING / "alerts.yaml")], "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yaml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    options = [
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen([prometheus / "prometheus", *options], stdout=log, stderr=log)
        try:
            yield address
        finally:
            stop(process.pid)


def answer(server: str, query: str) -> list[Any]:
    """The series that a query finds. An error of Prometheus's is one here."""
    asked = urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(f"http://{server}/api/v1/query?{asked}", timeout=10) as reply:
        content = json.loads(reply.read())
    assert content["status"] == "success", content
    found: list[Any] = content["data"]["result"]
    return found


def test_every_query_of_the_dashboard_is_answered_while_a_job_runs(server: str, tmp_path: Path) -> None:
    told = [query for query in queries() if not any(word in query for word in WITHOUT_A_GPU_OR_AN_ENDPOINT)]
    run, go = RunDir(tmp_path / "run"), tmp_path / "go"
    config = make_config(run.root)
    write_problems(run, [f"What is {n} + 1?" for n in range(200)])
    gauges = StepGauges()
    unanswered: list[str] = told

    def ask_until_all_are_answered() -> None:
        nonlocal unanswered
        deadline = time.monotonic() + PATIENCE_S
        while unanswered and time.monotonic() < deadline:
            gauges(dict.fromkeys(GAUGES, 1.0))
            with suppress(OSError):
                unanswered = [query for query in unanswered if not answer(server, query)]
            time.sleep(1)
        go.touch()

    asking = threading.Thread(target=ask_until_all_are_answered)
    asking.start()
    generate(config, run, engine_factory=FakeEngines(held="Attempt:", until=str(go), latency_s=0.1))
    asking.join()
    assert unanswered == []
    for query in queries():
        answer(server, query)  # those without data are well-formed too
