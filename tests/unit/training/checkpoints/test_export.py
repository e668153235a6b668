"""The export is a complete Hugging Face directory: same logits, tied weights tied, safetensors only, the tokenizer byte for byte."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message
from cgd_ray.data.rundir import read_manifest
from cgd_ray.training.checkpoints.export import export
from tests.builders import VOCABULARY_SIZE, tiny_config, tiny_model


def trained(tied: bool = True) -> Qwen3ForCausalLM:
    """Weights other than those of the initial model."""
    torch.manual_seed(1)
    return Qwen3ForCausalLM(tiny_config(tie_word_embeddings=tied)).to(torch.float32)


def exported(tmp_path: Path, model: Qwen3ForCausalLM, precision: str = "fp32") -> Path:
    initial = tiny_model(tmp_path / "initial", tie_word_embeddings=model.config.tie_word_embeddings)
    export(dict(model.named_parameters()), str(initial), precision, tmp_path / "model", "mine")
    return tmp_path / "model"


def stored_names(directory: Path) -> set[str]:
    with safe_open(directory / "model.safetensors", "pt") as weights:
        return set(weights.keys())


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_it_and_computes_the_same_logits(tmp_path: Path, tied: bool) -> None:
    model = trained(tied)
    loaded, report = AutoModelForCausalLM.from_pretrained(exported(tmp_path, model), output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.arange(0, VOCABULARY_SIZE, 7)[None]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    directory = exported(tmp_path, trained())
    assert "lm_head.weight" not in stored_names(directory)
    loaded = AutoModelForCausalLM.from_pretrained(directory)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_untied_weights_are_stored_both(tmp_path: Path) -> None:
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= stored_names(exported(tmp_path, trained(tied=False)))


def test_weights_are_safetensors_and_nothing_is_a_pickle(tmp_path: Path) -> None:
    suffixes = {path.suffix for path in exported(tmp_path, trained()).rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".jinja"}


def test_tokenizer_template_and_generation_settings_are_those_of_the_initial_model(tmp_path: Path) -> None:
    directory = exported(tmp_path, trained())
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (directory / name).read_bytes() == (tmp_path / "initial" / name).read_bytes()
    conversation = [Message(role="user", content="What is 1 + 1?")]
    assert Chat.load(str(directory)).prompt(conversation) == Chat.load(str(tmp_path / "initial")).prompt(conversation)


def test_bf16_weights_are_stored_and_declared_as_bf16(tmp_path: Path) -> None:
    model = trained()
    loaded = AutoModelForCausalLM.from_pretrained(exported(tmp_path, model, "bf16"), dtype="auto")
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight.to(torch.bfloat16))


def test_no_trace_of_the_attention_of_the_training_is_left(tmp_path: Path) -> None:
    assert "packed" not in (exported(tmp_path, trained()) / "config.json").read_text()


def test_it_replaces_what_was_there_and_what_a_killed_export_left_and_has_a_manifest(tmp_path: Path) -> None:
    for name in ("model", ".model.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stale.bin").write_text("stale")
    directory = exported(tmp_path, trained())
    manifest = read_manifest(directory)
    assert manifest is not None
    assert manifest["fingerprint"] == "mine"
    files = {path.name for path in directory.iterdir()}
    assert files == {part["path"] for part in manifest["parts"]} | {"manifest.json"}
    assert "stale.bin" not in files
    assert not (tmp_path / ".model.tmp").exists()
