"""Whatever is killed, and whenever: the same command makes every record exactly once, little is made twice, and nothing stays behind.

Nodes are real raylets on this machine, kills are SIGKILL or a process that ends itself between two durable steps. One moment of most kinds
runs by default; `pytest tests/chaos -m "slow or not slow"` runs all.
"""

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgd_ray.data import durable
from cgd_ray.data.rundir import RunDir, manifest_parts, read_manifest
from cgd_ray.generation.dataflow import NUM_WRITERS
from cgd_ray.generation.pools.elasticity import CALLS_PER_PLACE
from cgd_ray.generation.pools.flow_control import BLOCKS_PER_PROCESS
from tests.chaos.driver import JOURNAL, make_config
from tests.fakes import answers_made
from tests.processes import begun

MANY = ("--rows", "400")
"""Rows of a run that is killed: several times what is in flight at once."""
NUM_NODES = 2
MOMENTS = range(10)


@pytest.fixture(scope="module")
def cluster(no_ray: None) -> Iterator[Any]:
    """A head without CPUs and two nodes that do the work; a lost one is noticed within seconds."""
    from ray.cluster_utils import Cluster

    noticing = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": noticing})
    for _ in range(NUM_NODES):
        cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def start(run: RunDir, cluster: Any, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.chaos.driver", str(run.root), cluster.address, *options]
    return begun(command, stderr=subprocess.DEVNULL)


def wait_for_parts(run: RunDir, count: int, driver: "subprocess.Popen[bytes]") -> None:
    """Until so many parts are committed, or the driver has ended."""
    while driver.poll() is None and len(committed(run)) < count:
        time.sleep(0.02)


def committed(run: RunDir) -> list[Path]:
    return durable.committed(run.generation_state / durable.IDS)


def read_records(run: RunDir) -> pa.Table:
    return pa.concat_tables([pq.read_table(part) for part in manifest_parts(run.records)]).sort_by("record_id")


def assert_exactly_once(run: RunDir) -> None:
    records = read_records(run)
    assert records["record_id"].to_pylist() == sorted(pq.read_table(run.work_list)["record_id"].to_pylist())
    assert records["error"].null_count == records.num_rows
    assert {path.name for path in run.records.glob("*.parquet")} == {path.name for path in manifest_parts(run.records)}


def num_answers_made_again(run: RunDir) -> int:
    made = answers_made(run.root / JOURNAL)
    return len(made) - len(set(made))


def assert_all_cpus_come_free(cluster: Any) -> None:
    import ray

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        deadline = time.monotonic() + 60
        while ray.available_resources().get("CPU") != ray.cluster_resources().get("CPU"):
            assert time.monotonic() < deadline, f"{ray.available_resources()} of {ray.cluster_resources()}"
            time.sleep(0.2)
    finally:
        ray.shutdown()


def actors() -> list[psutil.Process]:
    """Processes of this user's stage actors that descend from this test's cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may be ending just now
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill_an_actor(cluster: Any, rng: random.Random) -> None:
    deadline = time.monotonic() + 60
    while not (found := actors()):  # before the first part there may be none yet
        assert time.monotonic() < deadline, "no actor has started"
        time.sleep(0.05)
    rng.choice(found).kill()


def kill_a_node(cluster: Any, rng: random.Random) -> None:
    node = rng.choice(sorted(cluster.worker_nodes, key=lambda node: str(node.unique_id)))
    cluster.remove_node(node, allow_graceful=False)


def rows_held_by_an_actor() -> int:
    """In its engine, before it, and after it until the slowest row of their call is finished: what is in flight there."""
    config = make_config(Path())
    batch, places = config.generation.batch_size, config.student.placement.requests_in_flight
    return batch * (CALLS_PER_PLACE * places // batch + 1)


def most_answers_lost_with(actors: Sequence[str]) -> int:
    """A teacher has given a row two answers at most, a student one."""
    return sum({"student": 1, "teacher": 2}[role] * rows_held_by_an_actor() for role in actors)


OF_A_NODE = ("student", "student", "teacher", "teacher")
"""Actors that may have been on it."""


def test_a_writer_that_ends_a_killed_node_and_a_killed_driver_lose_only_what_was_in_flight(cluster: Any, tmp_path: Path) -> None:
    rng, run = random.Random(0), RunDir(tmp_path)
    driver = start(run, cluster, *MANY, "--die", "workers", "commit", "2", "after")
    wait_for_parts(run, rng.randrange(3, 10), driver)
    assert (tmp_path / "died").exists()
    kill_a_node(cluster, rng)
    cluster.add_node(num_cpus=2)
    wait_for_parts(run, len(committed(run)) + rng.randrange(5, 15), driver)
    kill_the_driver_and_start_again(run, cluster, driver)
    assert num_answers_made_again(run) <= most_answers_lost_with(OF_A_NODE) + most_answers_in_flight()
    assert_all_cpus_come_free(cluster)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MOMENTS)
@pytest.mark.parametrize(("kill", "actors_hit"), [(kill_an_actor, ("teacher",)), (kill_a_node, OF_A_NODE)])
def test_a_killed_actor_or_node_costs_no_record(
    cluster: Any, kill: Callable[[Any, random.Random], None], actors_hit: Sequence[str], seed: int, tmp_path: Path
) -> None:
    rng, run = random.Random(seed), RunDir(tmp_path)
    driver = start(run, cluster, *MANY)
    wait_for_parts(run, rng.randrange(30), driver)
    kill(cluster, rng)
    assert driver.poll() is None, "the run was over before the kill"
    while len(cluster.worker_nodes) < NUM_NODES:
        cluster.add_node(num_cpus=2)
    assert driver.wait(timeout=180) == 0
    assert_exactly_once(run)
    assert num_answers_made_again(run) <= most_answers_lost_with(actors_hit)
    assert_all_cpus_come_free(cluster)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MOMENTS)
def test_a_killed_driver_loses_only_what_was_in_flight(cluster: Any, seed: int, tmp_path: Path) -> None:
    rng, run = random.Random(seed), RunDir(tmp_path)
    driver = start(run, cluster, *MANY)
    wait_for_parts(run, rng.randrange(1, 30), driver)
    kill_the_driver_and_start_again(run, cluster, driver)
    assert num_answers_made_again(run) <= most_answers_in_flight()
    assert_all_cpus_come_free(cluster)


def kill_the_driver_and_start_again(run: RunDir, cluster: Any, driver: "subprocess.Popen[bytes]") -> None:
    """The next one keeps what was finished, and makes the rest."""
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, "the run was over before the kill"
    finished = sum(pq.read_metadata(file).num_rows for file in committed(run))
    kept = {part: part.stat().st_mtime_ns for part in run.records.glob("*.parquet")}
    assert start(run, cluster, *MANY).wait(timeout=180) == 0
    assert_exactly_once(run)
    manifest = read_manifest(run.records)
    assert manifest is not None
    assert manifest["resumed"] >= finished
    again = {part: part.stat().st_mtime_ns for part in run.records.glob("*.parquet")}
    assert len(kept.items() & again.items()) >= len(kept) - NUM_WRITERS  # at most so many parts were being written


def most_answers_in_flight() -> int:
    """Of rows that no part holds yet: one each with the students and on the way to the teachers, three from there on."""
    generation, held = make_config(Path()).generation, rows_held_by_an_actor()
    waiting = BLOCKS_PER_PROCESS * generation.batch_size  # for each teacher, and for each writer
    in_parts = (NUM_WRITERS + 1) * (generation.rows_per_block + generation.batch_size)  # being written, and gathered for the next
    return 2 * (held + waiting) + 3 * (2 * held + NUM_WRITERS * waiting + in_parts)


FEW = ("--rows", "48")
"""Rows of a run whose every durable step is a test."""
STEPS = range(1, 61)
CALLS_OF_WORKERS = [
    (call, step, moment) for call in ("ids", "part", "commit", "write") for step in (1, 2) for moment in ("before", "after")
]


def assert_little_is_left_over(run: RunDir) -> None:
    """At most the file that was being written when the process died."""
    assert len([path for path in run.root.rglob("*.tmp") if path.is_file()]) <= 1


@pytest.mark.slow  # a driver is killed by default above
@pytest.mark.parametrize("step", STEPS)
def test_a_driver_that_ends_before_a_durable_step_leaves_a_run_that_goes_on(cluster: Any, step: int, tmp_path: Path) -> None:
    """Which is what ending after the step before it leaves: the driver takes one after the other."""
    run = RunDir(tmp_path)
    assert start(run, cluster, *FEW, "--die", "driver", "any", str(step), "before").wait(timeout=180) in (0, 9)  # 0: there are fewer
    assert start(run, cluster, *FEW).wait(timeout=180) == 0
    assert_exactly_once(run)
    assert_little_is_left_over(run)


@pytest.mark.slow  # one is among what happens to a run above
@pytest.mark.parametrize(("call", "step", "moment"), CALLS_OF_WORKERS)
def test_a_worker_that_ends_at_a_durable_step_is_replaced(cluster: Any, call: str, step: int, moment: str, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert start(run, cluster, *FEW, "--die", "workers", call, str(step), moment).wait(timeout=180) == 0
    assert (tmp_path / "died").exists()
    assert_exactly_once(run)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(15, 29))
def test_a_driver_that_ends_while_it_takes_over_columns_makes_no_row_twice(cluster: Any, step: int, tmp_path: Path) -> None:
    old, run = RunDir(tmp_path / "old"), RunDir(tmp_path / "new")
    assert start(old, cluster, *FEW).wait(timeout=180) == 0
    reuse = (*FEW, "--reuse", str(old.records))
    assert start(run, cluster, *reuse, "--die", "driver", "any", str(step), "before").wait(timeout=180) in (0, 9)
    assert start(run, cluster, *reuse).wait(timeout=180) == 0
    assert_exactly_once(run)
    manifest = read_manifest(run.records)
    assert manifest is not None
    assert manifest["reused"]["attempt"]["rows"] == pq.read_metadata(run.work_list).num_rows


VLLM = ("--vllm", "--rows", "96")


@pytest.fixture(scope="module")
def undisturbed(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """What vLLM's engines make, greedily, when nothing happens to them."""
    run = RunDir(tmp_path_factory.mktemp("undisturbed"))
    assert start(run, cluster, *VLLM).wait(timeout=300) == 0
    return read_records(run).select(WHAT_IS_MADE)


WHAT_IS_MADE = ["record_id", "attempt", "critique", "refinement", "verdict", "attempt_tokens", "critique_tokens", "refinement_tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_an_actor, kill_a_node])
def test_a_killed_actor_or_node_with_vllm_in_it_changes_no_record(
    cluster: Any, undisturbed: pa.Table, kill: Callable[[Any, random.Random], None], tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    driver = start(run, cluster, *VLLM)
    wait_for_parts(run, 3, driver)
    kill(cluster, random.Random(0))
    assert driver.poll() is None, "the run was over before the kill"
    assert driver.wait(timeout=300) == 0
    assert_exactly_once(run)
    assert read_records(run).select(WHAT_IS_MADE).equals(undisturbed)
    assert_all_cpus_come_free(cluster)


@pytest.mark.slow
def test_a_killed_driver_of_vllm_engines_goes_on_to_the_same_records(cluster: Any, undisturbed: pa.Table, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    driver = start(run, cluster, *VLLM)
    wait_for_parts(run, 3, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert start(run, cluster, *VLLM).wait(timeout=300) == 0
    assert_exactly_once(run)
    assert read_records(run).select(WHAT_IS_MADE).equals(undisturbed)
    manifest = read_manifest(run.records)
    assert manifest is not None
    assert 0 < manifest["resumed"] < 96
    assert_all_cpus_come_free(cluster)
