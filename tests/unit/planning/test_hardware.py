"""Machines are stated, and what is not known of them must be."""

from pathlib import Path

import pytest

from cgd_ray.planning.hardware import machines_of, read_machines, this_machine
from tests.unit.planning.made_plans import h100_nodes


def written(root: Path, text: str) -> str:
    (root / "cluster.yaml").write_text(text)
    return str(root / "cluster.yaml")


def test_an_unknown_gpu_names_the_nearest_and_what_must_be_stated(tmp_path: Path) -> None:
    path = written(tmp_path, "nodes: [{gpu: H1000, gpus: 8, cpus: 96, memory_gib: 1000, gpu_memory_gib: 80}]")
    with pytest.raises(ValueError, match=r"nodes.gpu is H1000.*nearest: H100.*state gpu_teraflops, gpu_bandwidth_gb_s"):
        read_machines(path)


def test_what_is_stated_of_a_gpu_has_the_last_word(tmp_path: Path) -> None:
    stated = "gpu_memory_gib: 64, gpu_teraflops: 500, gpu_bandwidth_gb_s: 2000"
    machine = read_machines(written(tmp_path, f"nodes: [{{gpu: Mine, gpus: 4, cpus: 96, memory_gib: 1000, {stated}}}]")).nodes[0]
    assert machine.accelerator is not None
    assert (machine.accelerator.memory_bytes, machine.accelerator.peak_flops) == (64 * 2**30, 500e12)
    assert machine.gpu_price is None


def test_a_misspelt_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gpu_s"):
        read_machines(written(tmp_path, "nodes: [{gpu_s: 8, cpus: 96, memory_gib: 1000}]"))


def test_a_running_cluster_is_what_it_says_it_is() -> None:
    stated = h100_nodes(3)
    assert machines_of(stated.resources) == stated


def test_this_machine_has_cpus_and_memory() -> None:
    machine = this_machine().nodes[0]
    assert machine.cpus >= 1
    assert machine.memory_gib > 0
