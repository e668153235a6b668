"""Each recipe fits the cluster that its head states."""

import re
from pathlib import Path

import pytest

from cgd_ray.config import read_config
from cgd_ray.planning.hardware import Machines
from cgd_ray.planning.plan import make_plan
from tests.unit.planning.made_plans import h100_nodes

RECIPES = sorted((Path(__file__).parents[3] / "jobs" / "configs" / "recipes").glob("*.yaml"))


def stated_cluster(text: str) -> Machines:
    """Of a head that says "For 2 nodes of 8 x H100-80GB", wherever its lines break."""
    head = " ".join(line.removeprefix("# ") for line in text.partition("\nrun_dir")[0].splitlines())
    found = re.search(r"For (\d) nodes? of (\d) x (\w+)-80GB", head)
    assert found is not None
    return h100_nodes(int(found[1]), gpus=int(found[2]), gpu=found[3])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_fits_the_cluster_that_it_states(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plan = make_plan(read_config(path), stated_cluster(path.read_text(encoding="utf-8")), None)
    assert plan.refusal is None
