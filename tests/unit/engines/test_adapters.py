"""An adapter is plain LoRA that fits its model, or it is refused; merged, it adds what it would have added."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from cgd_ray.config import PlacementConfig, RoleConfig, TrainingConfig
from cgd_ray.data.prompts import Prompts
from cgd_ray.engines.adapters import adapter_identity, check_fits, merge, read_adapter
from cgd_ray.engines.vllm_engine import engine_arguments
from cgd_ray.generation.fingerprints import attempt_fingerprint
from cgd_ray.training.checkpoints.store import fingerprint
from cgd_ray.training.model.zero import load_model
from tests.builders import packed_examples, random_examples, tiny_adapter, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), dtype=torch.float32)


def test_a_merged_layer_adds_the_scaled_product_of_its_pair_and_no_other_changes(model: Path, tmp_path: Path) -> None:
    adapter = read_adapter(str(tiny_adapter(tmp_path / "adapter", model, rank=4, lora_alpha=6)))
    check_fits(adapter, str(model))
    assert (adapter.rank, adapter.scale) == (4, 1.5)
    merged = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in merged.state_dict().items()}
    merge(adapter, merged)
    pairs = load_file(adapter.directory / "adapter_model.safetensors")
    changed = {name for name, weight in merged.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {f"model.layers.{block}.{layer}.weight" for block in (0, 1) for layer in ("self_attn.q_proj", "mlp.down_proj")}
    inputs = torch.randn(3, 64)
    layer = "model.layers.1.self_attn.q_proj"
    down, up = (pairs[f"base_model.model.{layer}.lora_{half}.weight"] for half in "AB")
    expected = inputs @ before[f"{layer}.weight"].T + 1.5 * (inputs @ down.T) @ up.T
    torch.testing.assert_close(merged.get_submodule(layer)(inputs), expected)


def test_training_starts_from_the_sum(model: Path, tmp_path: Path) -> None:
    adapter = str(tiny_adapter(tmp_path / "adapter", model))
    training = TrainingConfig(precision="fp32")
    merged = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    merge(read_adapter(adapter), merged)
    loaded = load_model(training, str(model), adapter).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in merged.state_dict().items())


def test_a_checkpoint_of_another_adapter_is_another_trainings(model: Path, tmp_path: Path) -> None:
    training = TrainingConfig(context_length=64)
    packed = packed_examples(tmp_path, training, random_examples(4))
    adapters = [str(tiny_adapter(tmp_path / str(alpha), model, lora_alpha=alpha)) for alpha in (1, 2)]
    assert len({fingerprint(training, str(model), packed, adapter) for adapter in (None, *adapters)}) == 3


def test_rank_stabilised_adapters_have_their_own_scale(model: Path, tmp_path: Path) -> None:
    assert read_adapter(str(tiny_adapter(tmp_path / "adapter", model, rank=4, lora_alpha=8, use_rslora=True))).scale == 4.0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"peft_type": "LOHA"}, r"has peft_type LOHA, r 4 and lora_alpha 8; only LORA of rank 1 to 512 is served"),
        ({"r": 1024}, r"has peft_type LORA, r 1024 and"),
        ({"use_dora": True}, r"has use_dora True, which is more than plain LoRA; merge it into the model first"),
        ({"rank_pattern": {"q_proj": 8}}, r"has rank_pattern {'q_proj': 8}, which is more"),
        ({"bias": "all"}, r"has {'bias': 'all', 'init_lora_weights': None}, which is more than plain LoRA"),
        ({"init_lora_weights": "pissa"}, r"'init_lora_weights': 'pissa'}, which is more than plain LoRA"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused(settings: dict[str, Any], expected: str, model: Path, tmp_path: Path) -> None:
    directory = tiny_adapter(tmp_path / "adapter", model, **settings)
    with pytest.raises(ValueError, match=expected) as refused:
        read_adapter(str(directory))
    assert str(refused.value).startswith(f"adapter {directory} ")


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_directory_that_is_no_adapter_is_refused(missing: str, model: Path, tmp_path: Path) -> None:
    directory = tiny_adapter(tmp_path / "adapter", model)
    (directory / missing).unlink()
    with pytest.raises(ValueError, match=f"adapter {directory} holds no {missing}; give a directory that peft has saved"):
        read_adapter(str(directory))
    assert adapter_identity(str(directory)) == "missing"


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("adapter_config.json", "[1]", "adapter_config.json holds list, not an object with named settings; replace it"),
        ("adapter_config.json", "{", "adapter_config.json holds no valid JSON"),
        ("adapter_config.json", "\ufeffjunk\0", "adapter_config.json holds no valid JSON"),
        (
            "adapter_model.safetensors",
            "version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer and not the weights; run `git lfs",
        ),
        ("adapter_model.safetensors", "junk", r"is no safetensors file \(.*\); replace it"),
    ],
)
@pytest.mark.parametrize("on_hub", [False, True])
def test_files_of_an_adapter_that_are_damaged_are_named(
    file: str, content: str, expected: str, on_hub: bool, model: Path, tmp_path: Path
) -> None:
    directory = tiny_adapter(tmp_path / "adapter", model)
    (directory / file).write_text(content)
    with pytest.raises(ValueError, match=f"^adapter {directory}: .*{expected}") as refused:
        check_fits(read_adapter(str(directory)), "some-body/some-model" if on_hub else str(model))
    assert "\n" not in str(refused.value)


def test_an_adapter_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other", hidden_size=32)
    adapter = read_adapter(str(tiny_adapter(tmp_path / "adapter", other)))
    with pytest.raises(ValueError, match=r"does not fit .*: it has \[\d+, \d+\] of rank 4 for model.*; give the adapter's own model"):
        check_fits(adapter, str(model))
    content = json.loads((adapter.directory / "adapter_config.json").read_text())
    (adapter.directory / "adapter_config.json").write_text(json.dumps({**content, "r": 8}))
    with pytest.raises(ValueError, match=r"of rank 4 for .* and rank 8 in adapter_config.json"):
        check_fits(read_adapter(str(adapter.directory)), str(other))


def test_an_attempts_fingerprint_holds_the_adapters_content_and_not_its_place(model: Path, tmp_path: Path) -> None:
    def of_attempts(adapter: Path | None) -> str:
        return attempt_fingerprint(RoleConfig(model=str(model), adapter=None if adapter is None else str(adapter)), Prompts())

    first, same = (tiny_adapter(tmp_path / name, model) for name in ("first", "same"))
    other = tiny_adapter(tmp_path / "other", model, lora_alpha=1)
    assert of_attempts(first) == of_attempts(same)
    assert len({of_attempts(None), of_attempts(first), of_attempts(other)}) == 3


@pytest.mark.parametrize(("rank", "largest"), [(1, 1), (4, 8), (8, 8), (9, 16), (257, 320)])
def test_vllm_is_told_the_least_of_its_ranks_that_holds_the_adapters(rank: int, largest: int, model: Path, tmp_path: Path) -> None:
    role = RoleConfig(model=str(model), placement=PlacementConfig(), adapter=str(tiny_adapter(tmp_path / "adapter", model, rank=rank)))
    arguments = engine_arguments(role)
    assert (arguments["enable_lora"], arguments["max_lora_rank"]) == (True, largest)
    assert "enable_lora" not in engine_arguments(role.model_copy(update={"adapter": None}))


def test_an_endpoint_has_no_adapter() -> None:
    with pytest.raises(ValueError, match="adapter is lora and api is set; the endpoint has its own models: remove one of the two"):
        RoleConfig.model_validate({"model": "m", "adapter": "lora", "api": {"base_url": "http://localhost/v1"}})
