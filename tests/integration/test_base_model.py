"""A base model with a template from a file, in the real engine: its answer ends where training ends answers, not with the document."""

import asyncio
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cgd_ray.config import PlacementConfig, RoleConfig, SamplingConfig
from cgd_ray.data.prompts import Message
from cgd_ray.engines.real import start_vllm
from tests.builders import CHATML, TURN_END, tiny_model, tiny_tokenizer


def parrot(path: Path) -> Path:
    """A base model that says one token for ever: its layers add nothing, so each position's logits follow from the embedding alone."""
    tiny_model(path, dtype=torch.float32, tie_word_embeddings=False)
    weights = load_file(path / "model.safetensors")
    for name, weight in weights.items():
        weight.fill_(1.0 if "embed_tokens" in name or "norm" in name else 0.0)
    tokenizer = tiny_tokenizer()
    weights["lm_head.weight"][tokenizer.convert_tokens_to_ids(TURN_END)] = 1.0
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    tokenizer.chat_template, tokenizer.eos_token = None, "<|endoftext|>"
    tokenizer.save_pretrained(str(path))
    (path / "chat_template.jinja").unlink()
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps({**settings, "eos_token_id": 0}))
    return path


def test_generation_stops_at_the_end_token_of_the_template(tmp_path: Path) -> None:
    (tmp_path / "chatml.jinja").write_text(CHATML)
    role = RoleConfig(
        model=str(parrot(tmp_path / "model")),
        context_length=128,
        chat_template=str(tmp_path / "chatml.jinja"),
        sampling=SamplingConfig(max_tokens=16),
        placement=PlacementConfig(requests_in_flight=2),
    )
    engine = start_vllm(role)
    generation = asyncio.run(engine.generate([Message(role="user", content="Hi")], role.sampling, seed=0))
    engine.close()
    assert (generation.finish_reason, generation.num_tokens, generation.text) == ("stop", 1, "")
