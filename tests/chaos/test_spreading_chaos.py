"""A node that is lost takes along only what its processes were doing, which is done again elsewhere."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cgd_ray.process.spreading import spread

NUM_PIECES = 12
PIECE_S = 1.0


@pytest.fixture
def cluster(no_ray: None) -> Iterator[Any]:
    """Two nodes with a CPU each; a lost one is noticed within seconds."""
    import ray
    from ray.cluster_utils import Cluster

    noticing = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": noticing})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


class Waiting:
    """Takes its time, and says on which node."""

    def __call__(self, number: int) -> tuple[int, str]:
        import ray

        time.sleep(PIECE_S)
        return number, ray.get_runtime_context().get_node_id()

    def close(self) -> None:
        pass


@pytest.mark.slow  # of losing a process alone, tests/unit/process has a test
def test_what_a_lost_node_was_doing_is_done_where_a_cpu_becomes_free(cluster: Any) -> None:
    lost = cluster.worker_nodes.copy().pop()
    results = spread(Waiting, (), NUM_PIECES)
    first = [next(results) for _ in range(4)]
    assert lost.node_id in {node for _, node in first}, "both nodes take part"
    threading.Thread(target=cluster.remove_node, args=(lost, False)).start()  # while the driver waits for the next result
    others = list(results)
    assert [number for number, _ in first + others] == list(range(NUM_PIECES))
    assert others[-1][1] != lost.node_id
