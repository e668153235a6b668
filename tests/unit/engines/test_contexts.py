"""The longest context of a model is the one that vLLM derives from the same config."""

from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from cgd_ray.engines.contexts import longest_context

CASES: list[tuple[str, dict[str, Any], int]] = [
    ("llama", {"max_position_embeddings": 2048}, 2048),
    ("llama", {"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, 8192),
    ("llama", {"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, 4096),
    (
        "qwen2",
        {
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 1e4},
        },
        32768,
    ),
    (
        "llama",
        {
            "max_position_embeddings": 131072,
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
                "rope_theta": 1e4,
            },
        },
        131072,
    ),
    ("gpt2", {"n_positions": 512}, 512),
]


@pytest.mark.parametrize(("family", "settings", "expected"), CASES)
def test_it_is_what_the_config_says_times_what_rotary_scaling_adds(
    family: str, settings: dict[str, Any], expected: int, tmp_path: Path
) -> None:
    CONFIG_MAPPING[family](**settings).save_pretrained(tmp_path)
    assert longest_context(str(tmp_path)) == expected


def test_an_architecture_that_transformers_does_not_know_has_none_that_could_be_compared(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mine"}')
    assert longest_context(str(tmp_path)) is None
