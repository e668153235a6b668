"""What Prometheus scrapes from a node while a generation runs there."""

import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cgd_ray.data.rundir import RunDir
from cgd_ray.generation.pipeline import generate
from tests.fakes import FakeEngines
from tests.integration.test_generation import make_config, write_problems

PATIENCE_S = 120.0


@pytest.fixture
def quick_metrics(no_ray: None) -> Iterator[None]:
    """A Ray whose workers report their metrics every second instead of every ten."""
    import ray

    settings = {"metrics_report_interval_ms": 1000}
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, _system_config=settings)
    yield
    ray.shutdown()


def scraped() -> dict[tuple[str, ...], float]:
    """The project's samples: (name, role, the other tag's value) -> value; nothing while Ray does not serve them yet."""
    import ray

    (node,) = ray.nodes()
    with suppress(OSError):
        with urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=5) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples if sample.name.startswith("ray_cgd_")]
        tags = ("turn", "kind", "reason")
        return {(s.name, s.labels["role"], *[s.labels[tag] for tag in tags if tag in s.labels]): s.value for s in samples}
    return {}


def test_turns_tokens_failed_rows_engine_seconds_and_loads_are_metrics_while_they_are_made(tmp_path: Path, quick_metrics: Any) -> None:
    run, config, go = RunDir(tmp_path), make_config(tmp_path, max_failed_fraction=0.1), tmp_path / "go"
    write_problems(run, [*[f"What is {n} + 1?" for n in range(19)], "very " * 2_000])
    expected = {
        ("ray_cgd_turns_total", "student", "attempts"): 19.0,
        ("ray_cgd_tokens_total", "student", "generated"): 19.0 * 8,
        ("ray_cgd_failed_rows_total", "student", "prompt of N tokens leaves no room in context_length N; raise it"): 1.0,
        ("ray_cgd_requests_running", "student"): 3.0,
        ("ray_cgd_requests_waiting", "student"): 2.0,
        ("ray_cgd_kv_cache_use", "student"): 0.5,
        ("ray_cgd_preemptions_total", "student"): 1.0,
    }
    found: dict[tuple[str, ...], float] = {}
    deadline = time.monotonic() + PATIENCE_S

    def let_the_teacher_go_when_all_are_found(counts: dict[str, int]) -> None:
        if not go.exists():
            found.update(scraped())
            if expected.items() <= found.items() or time.monotonic() > deadline:
                go.touch()

    generate(config, run, let_the_teacher_go_when_all_are_found, FakeEngines(held="Attempt:", until=str(go)))
    assert expected.items() <= found.items()
    assert found["ray_cgd_engine_seconds_total", "student"] > 0
