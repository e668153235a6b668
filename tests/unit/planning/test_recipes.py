"""Every recipe loads, and fits on the cluster that it names, by numbers that ship with the package."""

import itertools
from pathlib import Path

import pytest
from transformers import AutoConfig

from cgd_ray.config import load_config
from cgd_ray.planning.hardware import read_machines
from cgd_ray.planning.models.counting import count
from cgd_ray.planning.models.facts import known_models
from cgd_ray.planning.plan import make_plan

RECIPES = sorted(Path("jobs/configs/recipes").glob("*.yaml"))
NODES = {"One": 1, "one": 1, "Two": 2, "Four": 4}
PUBLISHED = {
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "meta-llama/Llama-3.3-70B-Instruct": 70.55,
    "simplescaling/s1.1-3B": 3.09,
    "simplescaling/s1.1-32B": 32.76,
    "Qwen/Qwen2.5-Math-7B-Instruct": 7.62,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 46.70,
    "allenai/OLMo-2-1124-7B-Instruct": 7.30,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 0.1345,
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
}
"""Billions of parameters, as the models' pages say."""


def cluster_of(recipe: Path) -> str:
    """The file of the cluster that the recipe's first lines name, as `Two nodes of 8 x 80 GB`."""
    words = recipe.read_text().replace(":", " ").split()
    number = next(NODES[word] for word, then in itertools.pairwise(words) if word in NODES and then.startswith("node"))
    return f"jobs/configs/clusters/h100_{number}x8.yaml"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_fits_on_its_cluster(recipe: Path) -> None:
    plan = make_plan(load_config(recipe), read_machines(cluster_of(recipe)))
    assert plan.refusal is None
    assert {plan.sources[name] for name in plan.facts} == {"known model"}
    assert all(phase.seconds is not None for phase in plan.phases)


def test_each_family_has_its_published_settings_and_ours() -> None:
    names = {recipe.stem for recipe in RECIPES}
    families = {name.removesuffix("_published") for name in names if name.endswith("_published")}
    assert families == {"llama31_8b", "s1_3b", "qwen25_math_7b", "mixtral_8x7b", "olmo2_7b"}
    assert families < names


@pytest.mark.parametrize("model", PUBLISHED)
def test_known_models_have_the_size_that_they_are_known_for(model: str) -> None:
    assert known_models()[model]["facts"]["size"]["num_parameters"] / 1e9 == pytest.approx(PUBLISHED[model], rel=0.002)


@pytest.mark.parametrize(
    "model", ["meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mixtral-8x7B-Instruct-v0.1", "allenai/OLMo-2-1124-7B-Instruct"]
)
def test_what_ships_is_what_is_counted(model: str) -> None:
    known = known_models()[model]
    assert count(AutoConfig.for_model(**known["config"])).as_dict() == known["facts"]
