"""A run is refused by its plan where it cannot work, and goes on without one where none can be made."""

from pathlib import Path

import pytest

from cgd_ray.cluster.connection import Node, Resources
from cgd_ray.runs.planned import told
from tests.unit.planning.made_plans import config_of, h100_nodes


def test_a_run_that_fits_is_told_so(tmp_path: Path) -> None:
    said: list[str] = []
    assert told(config_of(tmp_path), h100_nodes(2).resources, said.append) is not None
    assert said[-1].startswith("plan: fits; ")


def test_a_run_that_cannot_work_is_refused_with_what_mends_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"less than one request of context_length.*teacher\.placement\.gpus_per_replica="):
        told(config_of(tmp_path, "teacher.placement.gpus_per_replica=1"), h100_nodes(2).resources, print)


def test_a_gpu_that_says_nothing_of_itself_is_no_reason_to_end_a_run(tmp_path: Path) -> None:
    said: list[str] = []
    nameless = Resources(nodes=[Node(resources={"CPU": 192.0, "GPU": 8.0})] * 2)
    assert told(config_of(tmp_path), nameless, said.append) is None
    assert said[0].startswith("no plan: nodes.gpu is None")


def test_memory_that_a_node_does_not_tell_is_enough(tmp_path: Path) -> None:
    cpus = [
        "student.placement.gpus_per_replica=0",
        "teacher.placement.gpus_per_replica=0",
        "training.use_gpu=false",
        "training.num_workers=2",
    ]
    said: list[str] = []
    assert told(config_of(tmp_path, *cpus), Resources(nodes=[Node(resources={"CPU": 64.0})]), said.append) is not None
    assert not any("host memory" in line for line in said)
