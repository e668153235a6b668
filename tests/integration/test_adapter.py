"""A student with a LoRA adapter: vLLM answers with both, as transformers does with the adapter merged into the model."""

import asyncio
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from cgd_ray.config import PlacementConfig, RoleConfig, SamplingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.engines.adapters import merge, read_adapter
from cgd_ray.engines.engine import Engine
from cgd_ray.engines.real import start_vllm
from tests.builders import tiny_adapter

STUDENT = "examples/tinymath/models/student"
SAMPLING = SamplingConfig(max_tokens=16)


def test_the_engine_answers_as_the_merged_model_does(tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", Path(STUDENT), lora_alpha=1)
    role = RoleConfig(
        model=STUDENT,
        adapter=str(adapter),
        context_length=256,
        sampling=SAMPLING,
        engine={"dtype": "float32"},
        placement=PlacementConfig(requests_in_flight=16),
    )
    questions = [f"Tom has {n} apples and buys {n + 3} more. How many has he?" for n in range(8)]
    engine = start_vllm(role)
    answers = asyncio.run(asked(engine, questions))
    engine.close()

    chat = Chat.load(STUDENT)
    plain = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    merge(read_adapter(str(adapter)), merged)
    by_model = [[greedy(causal_lm, chat, question) for question in questions] for causal_lm in (plain, merged)]
    assert answers == by_model[1] != by_model[0]


async def asked(engine: Engine, questions: list[str]) -> list[str]:
    """The engine's answers, all in flight at once."""
    turns = (engine.generate(Prompts().solve_messages(question, None), SAMPLING, seed=0) for question in questions)
    return [generation.text for generation in await asyncio.gather(*turns)]


def greedy(causal_lm: Any, chat: Chat, question: str) -> str:
    input_ids = chat.prompt(Prompts().solve_messages(question, None)).input_ids
    output = causal_lm.generate(torch.tensor([input_ids]), max_new_tokens=SAMPLING.max_tokens, do_sample=False)[0, len(input_ids) :]
    return str(chat.tokenizer.decode(output, skip_special_tokens=True))
