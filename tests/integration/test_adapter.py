"""A student with a LoRA adapter: vLLM answers with both, as transformers does with the adapter merged into the model."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM

from cgd_ray.config import PlacementConfig, RoleConfig, SamplingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.rundir import RunDir, manifest_parts
from cgd_ray.engines.adapters import merge, read_adapter
from cgd_ray.generation.pipeline import run_attempts
from tests.builders import tiny_adapter
from tests.integration.test_generation import STUDENT, write_problems

MAX_TOKENS = 16


def test_the_engine_answers_as_the_merged_model_does(tmp_path: Path, ray_local: Any) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", Path(STUDENT), lora_alpha=1)
    role = RoleConfig(
        model=STUDENT,
        adapter=str(adapter),
        context_length=256,
        sampling=SamplingConfig(max_tokens=MAX_TOKENS),
        engine={"dtype": "float32"},
        placement=PlacementConfig(requests_in_flight=16),
    )
    run = RunDir(tmp_path)
    write_problems(run, [f"Tom has {n} apples and buys {n + 3} more. How many has he?" for n in range(8)])
    run_attempts(role, Prompts(), run.work_list, tmp_path / "answers", None)
    rows = pq.read_table(manifest_parts(tmp_path / "answers")[0]).to_pylist()

    chat = Chat.load(STUDENT)
    plain = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    merge(read_adapter(str(adapter)), merged)
    by_model = [[greedy(causal_lm, chat, row["question"]) for row in rows] for causal_lm in (plain, merged)]
    assert [row["attempt"] for row in rows] == by_model[1] != by_model[0]


def greedy(causal_lm: Any, chat: Chat, question: str) -> str:
    input_ids = chat.prompt(Prompts().solve_messages(question, None)).input_ids
    output = causal_lm.generate(torch.tensor([input_ids]), max_new_tokens=MAX_TOKENS, do_sample=False)[0, len(input_ids) :]
    return str(chat.tokenizer.decode(output, skip_special_tokens=True))
