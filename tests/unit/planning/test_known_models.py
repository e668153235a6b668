"""The numbers that ship with the package are those of the models: their published sizes, and what is counted again here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cgd_ray.config import read_config
from cgd_ray.planning.models.counting import count
from cgd_ray.planning.models.facts import ModelFacts, facts_of, known_models

ROOT = Path(__file__).parents[3]
PUBLISHED_BILLIONS = {
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "meta-llama/Llama-3.3-70B-Instruct": 70.55,
    "simplescaling/s1.1-3B": 3.09,
    "simplescaling/s1.1-32B": 32.76,
    "Qwen/Qwen2.5-Math-7B": 7.62,
    "Qwen/Qwen2.5-Math-7B-Instruct": 7.62,
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.54,
    "Qwen/Qwen2.5-7B-Instruct": 7.62,
    "Qwen/Qwen2.5-72B-Instruct": 72.7,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 46.70,
    "allenai/OLMo-2-1124-7B-Instruct": 7.30,
    "allenai/OLMo-2-1124-7B-SFT": 7.30,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 0.1345,
}
"""As the models' pages on the hub and their papers have them."""
SMALL = ("Qwen/Qwen2.5-0.5B-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct")
CONFIGS = sorted([*(ROOT / "jobs" / "configs" / "recipes").glob("*.yaml"), *(ROOT / "examples" / "real").glob("*.yaml")])


def config_of(name: str) -> Any:
    fields: Mapping[str, Any] = known_models()[name]["config"]
    return AutoConfig.for_model(**fields)


@pytest.mark.parametrize("name", list(known_models()))
def test_a_known_model_has_as_many_parameters_as_published(name: str) -> None:
    with torch.device("meta"):
        causal_lm = AutoModelForCausalLM.from_config(config_of(name))
    num_parameters = sum(parameter.numel() for parameter in causal_lm.parameters())
    assert num_parameters / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=3e-3)
    assert facts_of(name)[0].size.num_parameters == num_parameters


@pytest.mark.parametrize("name", SMALL)
def test_a_known_models_numbers_are_those_that_are_counted_now(name: str) -> None:
    counted = count(config_of(name))
    assert ModelFacts.from_dict(known_models()[name]["facts"]) == counted


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_model_that_a_recipe_or_an_example_names_is_known(path: Path) -> None:
    config = read_config(path)
    for role in (config.student, config.teacher):
        assert role.api is not None or role.model in known_models()
        if role.api is None:
            limit = facts_of(role.model)[0].longest_context
            assert limit is None or role.context_length <= limit
