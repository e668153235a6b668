"""A base model with a template from a file, in the real engine: its answer ends where training ends answers, not with the document.

What else only the real engine can show of single requests is asked of the same one.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cgd_ray.config import PlacementConfig, RoleConfig, SamplingConfig
from cgd_ray.data.prompts import Message
from cgd_ray.engines.engine import Concluding, Engine, Generation, Load, Observable, RequestError
from cgd_ray.engines.real import start_vllm
from cgd_ray.engines.repetition import LOOK_EVERY_STEPS
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


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The real one, with that model."""
    directory = tmp_path_factory.mktemp("base")
    (directory / "chatml.jinja").write_text(CHATML)
    role = RoleConfig(
        model=str(parrot(directory / "model")),
        context_length=128,
        chat_template=str(directory / "chatml.jinja"),
        placement=PlacementConfig(requests_in_flight=2),
        sampling=SamplingConfig(stop_repetition=32),
    )
    engine = start_vllm(role)
    yield engine
    engine.close()


def say(engine: Engine, **sampling: Any) -> Generation:
    settings = SamplingConfig.model_validate({"max_tokens": 16, **sampling})
    return asyncio.run(engine.generate([Message(role="user", content="Hi")], settings, seed=0))


def test_generation_stops_at_the_end_token_of_the_template(engine: Engine) -> None:
    generation = say(engine)
    assert (generation.finish_reason, generation.num_tokens, generation.text) == ("stop", 1, "")


def test_nothing_ends_a_generation_before_its_least_tokens_and_further_tokens_may_end_it(engine: Engine) -> None:
    assert say(engine, min_tokens=3).num_tokens == 4
    another = tiny_tokenizer().encode("x")[0]
    generation = say(engine, logit_bias={another: 50.0}, stop_token_ids=[another])
    assert (generation.finish_reason, generation.num_tokens, generation.text) == ("stop", 1, "")


@pytest.mark.parametrize("stop", [(), ("!",)], ids=["plain", "with stop strings"])
def test_a_generation_that_says_one_token_for_ever_is_ended_and_keeps_its_text(stop: tuple[str, ...], engine: Engine) -> None:
    another = tiny_tokenizer().encode("x")[0]
    generation = say(engine, logit_bias={another: 100.0}, max_tokens=110, stop=stop)  # more than the end token has
    assert generation.finish_reason == "repetition"
    assert 32 <= generation.num_tokens <= 32 + LOOK_EVERY_STEPS + 1
    assert generation.text == "x" * 32, "no more than makes it a loop, whenever that was seen"


def test_a_request_that_vllm_refuses_fails_alone(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"^vLLM refuses the request: .*logit_bias"):
        say(engine, logit_bias={10**6: 1.0})
    assert say(engine).num_tokens == 1


def test_the_engine_tells_how_busy_it_is(engine: Engine) -> None:
    assert isinstance(engine, Observable)
    told: list[Load] = []
    engine.observe(told.append, lambda reason: None)
    say(engine)
    assert told[-1] == Load(running=0, waiting=0, kv_cache_use=0.0, preemptions=0, unfinished_tokens=0)


def test_an_engine_of_our_own_is_held_to_a_choice(engine: Engine) -> None:
    assert isinstance(engine, Concluding)
    generation = asyncio.run(engine.conclude([Message(role="user", content="Hi")], "No.\n\nConclusion:", (" right", " wrong")))
    assert generation.text in (" right", " wrong")
