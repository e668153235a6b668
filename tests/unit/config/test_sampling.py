"""How a role decodes: settings have one owner, are refused in one line, and name themselves in fingerprints only where they are set."""

from typing import Any

import pytest
from pydantic import ValidationError

from cgd_ray.config import ApiConfig, PlacementConfig, RoleConfig, SamplingConfig, identity

FIRST_VERSION: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0, "top_k": None, "max_tokens": 1024, "seed": 0, "stop": []}


def test_a_fingerprint_names_the_settings_that_came_later_only_where_they_are_set() -> None:
    assert identity(SamplingConfig()) == FIRST_VERSION
    later: dict[str, Any] = {"min_p": 0.1, "stop_token_ids": [3], "logit_bias": {"5": -1.0}, "extra": {"ignore_eos": True}}
    assert identity(SamplingConfig.model_validate(later)) == {**FIRST_VERSION, **later}


def test_a_dumped_bias_is_read_again() -> None:
    sampling = SamplingConfig(logit_bias={5: -100.0})
    assert SamplingConfig.model_validate(sampling.model_dump(mode="json")) == sampling


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"extra": {"n": 2}}, r"extra\.n is 2; set generation\.num_samples instead"),
        ({"extra": {"top_p": 0.5}}, r"extra\.top_p is 0\.5; set sampling\.top_p instead"),
        ({"extra": {"detokenize": True}}, r"extra\.detokenize is True; it follows from how answers are read here: remove it"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens 9 exceeds max_tokens 8; lower it"),
        ({"presence_penalty": 3.0}, "less than or equal to 2"),
        ({"repetition_penalty": 0.0}, "greater than 0"),
        ({"min_p": 1.5}, "less than or equal to 1"),
    ],
)
def test_what_another_setting_owns_or_no_engine_takes_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SamplingConfig.model_validate(settings)


def test_fields_of_vllm_are_refused_for_an_endpoint() -> None:
    with pytest.raises(ValidationError, match=r"it is vLLM's: set api\.request_fields instead"):
        RoleConfig(model="m", api=ApiConfig(base_url="http://127.0.0.1/v1"), sampling=SamplingConfig(extra={"ignore_eos": True}))


@pytest.mark.parametrize(("gpus", "asked", "seeded"), [(0, None, True), (1, None, False), (1, True, True), (0, False, False)])
def test_each_generation_has_a_seed_of_its_own_on_cpus_and_where_it_is_asked_for(gpus: float, asked: bool | None, seeded: bool) -> None:
    placement = PlacementConfig(gpus_per_replica=gpus)
    assert RoleConfig(model="m", placement=placement, sampling=SamplingConfig(seed_per_request=asked)).seeds_requests is seeded
