"""Architectures in use, each as a miniature with random weights: trained on the right loss, without leaks, exported whole; or refused.

The oracle is transformers' own forward pass over each example alone, with its own attention and all its logits.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Example
from cgd_ray.training.checkpoints.export import export
from cgd_ray.training.model.attention import PACKED_ATTENTION, implementation_for
from cgd_ray.training.model.loss import TargetLoss
from cgd_ray.training.model.miniature import VOCABULARY_SIZE, miniature
from cgd_ray.training.model.support import check_config
from cgd_ray.training.model.zero import saved_buffers
from tests.builders import tiny_tokenizer
from tests.unit.training.model.test_loss import CPU, batch_of

FIRST = Example(input_ids=[5, 9, 33, 4, 17, 21, 60, 8, 12], prompt_length=4)
SECOND = Example(input_ids=[7, 3, 44, 51, 6, 30], prompt_length=2)
# fmt: off
PACKED = [
    "afmoe", "apertus", "arcee", "cohere", "cohere2", "deepseek_v3", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm",
    "glm4", "gpt2", "gpt_neox", "gpt_oss", "granite", "granitemoe", "helium", "hyperclovax", "llama", "mistral", "mixtral", "nanochat",
    "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3",
    "starcoder2",
]
# fmt: on
ALONE = {
    "bamba": "linear_attention layers",
    "bloom": "an attention of its own",
    "falcon": "an attention of its own",
    "falcon_h1": "hybrid layers",
    "gpt_neo": "an attention of its own",
    "granitemoehybrid": "linear_attention layers",
    "lfm2": "conv layers",
    "olmo_hybrid": "linear_attention layers",
    "qwen3_next": "linear_attention layers",
    "stablelm": "an attention of its own",
}
"""What keeps their examples from being packed."""
REFUSED = {
    "bert": "bert.* cannot be trained here: its tokens see those after them; choose another student",
    "doge": "doge.* cannot be trained here: its forward pass fails on a packed row",
    "minicpm3": r"minicpm3.* cannot be trained here: .* two examples in one row have the loss [\d.]+, and each alone [\d.]+ together",
    "t5": "t5.* is no causal language model of transformers",
}
LIKE_QWEN3_NEXT = ("bamba", "olmo_hybrid")
"""They take the same path, and seconds."""
FEW_LAYERS = {"lfm2": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}}
SMALL_HEADS = {"head_dim": 32}  # in place of 256, for speed alone


def config_of(family: str) -> Any:
    settings: dict[str, Any] = FEW_LAYERS.get(family, {})
    return CONFIG_MAPPING[family](**(settings | (SMALL_HEADS if family.startswith("gemma") else {})))


def loss_of(causal_lm: Any, *examples: Example) -> torch.Tensor:
    loss: torch.Tensor = TargetLoss(causal_lm, chunk_tokens=4)(**batch_of(examples).to(CPU))
    return loss


def loss_by_transformers(causal_lm: Any, example: Example) -> torch.Tensor:
    ids = torch.tensor(example.input_ids)
    logits = causal_lm(input_ids=ids[None], use_cache=False).logits[0].float()
    return torch.nn.functional.cross_entropy(logits[example.prompt_length - 1 : -1], ids[example.prompt_length :], reduction="sum")


def changed(example: Example) -> Example:
    """With another token in the midst of it."""
    ids = list(example.input_ids)
    ids[3] = 3 + (ids[3] + 11) % (VOCABULARY_SIZE - 3)
    return Example(input_ids=ids, prompt_length=example.prompt_length)


def without_targets(example: Example) -> Example:
    return Example(input_ids=example.input_ids, prompt_length=len(example.input_ids))


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow if name in LIKE_QWEN3_NEXT else ()) for name in (*PACKED, *ALONE)]
)
def test_a_row_has_the_loss_of_its_examples_alone_and_nothing_passes_between_them(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    attention = implementation_for(config)
    assert (attention == PACKED_ATTENTION) == (family in PACKED)
    causal_lm = miniature(config, attention)
    with torch.no_grad():
        together = loss_of(causal_lm, FIRST, SECOND)
        only_second = loss_of(causal_lm, without_targets(FIRST), SECOND)
        torch.testing.assert_close(loss_of(causal_lm, without_targets(changed(FIRST)), SECOND), only_second, rtol=1e-6, atol=0)
        assert not torch.allclose(loss_of(causal_lm, FIRST, SECOND), loss_of(causal_lm, changed(FIRST), SECOND), rtol=1e-3)
        if attention == PACKED_ATTENTION:
            causal_lm.set_attn_implementation("eager")
        alone = [loss_by_transformers(causal_lm, example) for example in (FIRST, SECOND)]
    torch.testing.assert_close(together, sum(alone, torch.zeros(())), rtol=1e-4, atol=0)
    torch.testing.assert_close(only_second, alone[1], rtol=1e-4, atol=0)
    assert_exported(causal_lm, tmp_path)


def assert_exported(causal_lm: Any, tmp_path: Path) -> None:
    """The export loads without a missing weight and has the same logits."""
    causal_lm.config.save_pretrained(tmp_path / "initial")
    tiny_tokenizer().save_pretrained(str(tmp_path / "initial"))
    weights = dict(causal_lm.named_parameters()) | saved_buffers(causal_lm)
    export(weights, str(tmp_path / "initial"), "fp32", tmp_path / "model", "mine")
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager", output_loading_info=True)
    assert not report["missing_keys"] | report["unexpected_keys"]
    ids = torch.tensor([FIRST.input_ids])
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(ids, use_cache=False).logits, causal_lm(ids, use_cache=False).logits)


@pytest.mark.parametrize("family", ["llama", "gemma2", "cohere", "gpt_oss", "qwen2_moe"])
def test_preflight_lets_a_model_of_real_size_pass_and_says_nothing(family: str) -> None:
    check_config(CONFIG_MAPPING[family](), "some/model", TrainingConfig())


@pytest.mark.parametrize("family", list(REFUSED))
def test_what_would_be_trained_wrong_is_refused_by_name(family: str) -> None:
    with pytest.raises(ValueError, match=f"^student.model some/model \\({REFUSED[family]}"):
        check_config(CONFIG_MAPPING[family](), "some/model", TrainingConfig())


@pytest.mark.parametrize("family", ["lfm2", "falcon"])
def test_examples_that_run_one_by_one_are_refused_where_all_workers_must_run_as_many(family: str) -> None:
    with pytest.raises(ValueError, match=rf"\({family}\) has {ALONE[family]}, so .*zero_stage is 3, .*; set training.zero_stage to 2$"):
        check_config(config_of(family), "some/model", TrainingConfig(zero_stage=3))
