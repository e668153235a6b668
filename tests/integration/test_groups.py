"""Engines on logical GPUs: those of one node hold them in their actors; for those that span nodes placement groups do, gone afterwards."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.data.rundir import RunDir
from cgd_ray.engines.engine import Engine
from cgd_ray.generation.pipeline import generate
from cgd_ray.problems.work_list import make_work_list, write_work_list
from tests.fakes import FakeEngines


@pytest.fixture(scope="module")
def cluster(no_ray: None) -> Iterator[None]:
    """Three nodes with two logical GPUs each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 2, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=4, num_gpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


@dataclass(frozen=True)
class SpanningEngines:
    """Fakes; one that spans nodes is built only in such a placement group as vLLM's `ray` executor needs, and, if broken, never."""

    broken: bool = False

    def __call__(self, role: RoleConfig) -> Engine:
        if role.placement.nodes_per_replica > 1:
            assert_the_group_holds_four_gpus_of_two_nodes()
            if self.broken:
                raise RuntimeError("the engine does not start")
        return FakeEngines()(role)


def engine_with_gpus(role: RoleConfig) -> Engine:
    """A fake that is built only where its actor has the role's GPUs."""
    import ray

    assert len(ray.get_gpu_ids()) == math.ceil(role.placement.gpus_per_replica), ray.get_gpu_ids()
    return FakeEngines()(role)


def assert_the_group_holds_four_gpus_of_two_nodes() -> None:
    import ray
    from ray.util import get_current_placement_group, placement_group_table

    group = get_current_placement_group()
    assert group is not None, "the actor is in no placement group"
    assert [bundle["GPU"] for bundle in group.bundle_specs] == [1.0] * 4
    assert len(set(placement_group_table(group)["bundles_to_node_id"].values())) == 2
    assert ray.get_gpu_ids() == []  # the GPUs are for the workers
    workers = [ray.remote(num_gpus=1, num_cpus=0)(GpuHolder).remote() for _ in range(4)]  # which run in the same group
    assert len(set(ray.get([worker.where.remote() for worker in workers]))) == 4


class GpuHolder:
    """Stands for one of vLLM's workers."""

    def where(self) -> tuple[str, int]:
        """Its node and its GPU there."""
        import ray

        (gpu,) = ray.get_gpu_ids()
        return ray.get_runtime_context().get_node_id(), int(gpu)


def wait_for_free_gpus(seconds: float = 30) -> None:
    import ray

    deadline = time.monotonic() + seconds
    while ray.available_resources().get("GPU") != 6:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.1)


@contextmanager
def taken_by_others(gpus: int, strategy: str = "PACK") -> Iterator[None]:
    import ray
    from ray.util import placement_group, remove_placement_group

    others = placement_group([{"GPU": 1}] * gpus, strategy=strategy)
    ray.get(others.ready())
    try:
        yield
    finally:
        remove_placement_group(others)


def make_config(root: Path) -> Config:
    placement = {"gpus_per_replica": 2, "nodes_per_replica": 2, "requests_in_flight": 8}
    roles = {"student": {"model": "nobody/fake"}, "teacher": {"model": "nobody/fake", "placement": placement}}
    return Config.model_validate({**roles, "run_dir": str(root), "problems": {"path": "unused"}})


def prepared(root: Path, count: int = 8) -> RunDir:
    run = RunDir(root)
    rows = [{"problem_id": f"p{number}", "question": f"What is {number} + 1?"} for number in range(count)]
    write_work_list(make_work_list(pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA), num_samples=1), run.work_list)
    return run


@pytest.mark.slow  # test_autoscaling.py has such engines by default
def test_engines_on_one_node_hold_its_gpus(cluster: None, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    placements = {
        "student": {"gpus_per_replica": 1, "min_replicas": 2, "max_replicas": 2},
        "teacher": {"gpus_per_replica": 2, "max_replicas": 2},
    }
    roles = {role: {"model": "nobody/fake", "placement": placement} for role, placement in placements.items()}
    config = Config.model_validate({**config.model_dump(), **roles})
    manifest = generate(config, prepared(tmp_path), engine_factory=engine_with_gpus)
    assert (manifest["rows"], manifest["failed"]) == (8, 0)
    wait_for_free_gpus()


@pytest.mark.slow  # tests/unit/engines has the sizes and the order of starts
def test_both_roles_fit_on_one_gpu_by_shares(cluster: None, tmp_path: Path) -> None:
    roles = {role: {"model": "nobody/fake", "placement": {"gpus_per_replica": 0.5}} for role in ("student", "teacher")}
    config = Config.model_validate({**make_config(tmp_path).model_dump(), **roles})
    with taken_by_others(gpus=5):
        manifest = generate(config, prepared(tmp_path), engine_factory=engine_with_gpus)
    assert (manifest["rows"], manifest["failed"]) == (8, 0)
    wait_for_free_gpus()


@pytest.mark.parametrize("broken", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_engine_on_two_nodes_has_a_group_that_is_gone_after_the_run(broken: bool, cluster: None, tmp_path: Path) -> None:
    from ray.util import placement_group_table

    run = prepared(tmp_path)
    if broken:
        with pytest.raises(Exception, match="the engine does not start"):
            generate(make_config(tmp_path), run, engine_factory=SpanningEngines(broken=True))
    else:
        assert generate(make_config(tmp_path), run, engine_factory=SpanningEngines())["failed"] == 0
    wait_for_free_gpus()
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}


def test_free_gpus_that_would_cut_a_stage_in_two_are_refused(cluster: None, tmp_path: Path) -> None:
    with (
        taken_by_others(gpus=2, strategy="STRICT_SPREAD"),  # leaves 2 + 1 + 1
        pytest.raises(Exception, match=r"teacher\.placement\.gpus_per_replica is 2, and Ray found 2 \+ 1 \+ 1 free GPUs on 3 nodes"),
    ):
        generate(make_config(tmp_path), prepared(tmp_path), engine_factory=SpanningEngines())
    wait_for_free_gpus()
