"""Small real things for tests: a tokenizer, a model directory, records, packed data. Everything follows from a seed."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Example
from cgd_ray.data.prompts import Message
from cgd_ray.data.records import SELECTED_SCHEMA, make_record_id
from cgd_ray.data.rundir import manifest_parts, write_manifest
from cgd_ray.training.examples.arms import ArmExample
from cgd_ray.training.examples.example_files import ExampleFiles, write_examples
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.examples.preparation import Prepared

PADDING, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY_SIZE = 320


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with all 256 bytes, a few merges, ChatML turns, an end token and a padding token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PADDING, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "What is 12 + 7? Add the ones, then the tens. The answer is \\boxed{19}. Conclusion: right. The system, the user, the assistant."
    tokenizer.train_from_iterator([text] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=TURN_END, pad_token=PADDING, chat_template=CHATML, clean_up_tokenization_spaces=False
    )


def tiny_config(**overrides: Any) -> Qwen3Config:
    """A Qwen3 of 0.1M parameters with tied embeddings; head size 32 is the least that vLLM's CPU attention knows."""
    settings = {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return Qwen3Config(**{**settings, **overrides})


def tiny_model(path: Path, *, dtype: torch.dtype = torch.bfloat16, seed: int = 0, **overrides: Any) -> Path:
    """Save a randomly initialised model with its tokenizer, as a student or a teacher; `overrides` go to its Qwen3Config."""
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(tiny_config(**overrides)).to(dtype)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(str(path))
    return path


def tiny_adapter(path: Path, model: Path, *, rank: int = 4, **settings: Any) -> Path:
    """Save a random LoRA adapter as peft does, on two layers of each block, strong enough to change answers; `settings` are peft's."""
    generator = torch.Generator().manual_seed(0)
    path.mkdir(parents=True)
    content = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj", "down_proj"], "bias": "none"}
    (path / "adapter_config.json").write_text(json.dumps({**content, **settings}))
    tensors = {}
    for name, weight_OI in load_file(model / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if layer.endswith(("q_proj", "down_proj")):
            outputs, inputs = weight_OI.shape
            tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) / inputs**0.5
            tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) / rank**0.5
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def tiny_records(count: int, **overrides: Any) -> list[dict[str, Any]]:
    """Rows of SELECTED_SCHEMA that generation and selection could have made; `overrides` replace columns of every row."""
    rng = random.Random(count)
    rows = []
    for index in range(count):
        first, second = rng.randrange(100), rng.randrange(100)
        row: dict[str, Any] = dict.fromkeys(SELECTED_SCHEMA.names)
        row |= {
            "record_id": make_record_id(f"problem-{index}", 0),
            "sample_index": 0,
            "problem_id": f"problem-{index}",
            "question": f"What is {first} + {second}?",
            "reference_answer": str(first + second),
            "reference_solution": f"{first} + {second} = {first + second}. The answer is \\boxed{{{first + second}}}.",
            "attempt": f"It is \\boxed{{{first + second + 1}}}.",
            "attempt_finish_reason": "stop",
            "critique": f"The sum is off by one. {'Look again. ' * rng.randrange(8)}\nConclusion: wrong",
            "critique_finish_reason": "stop",
            "refinement": f"Add {first} and {second}: \\boxed{{{first + second}}}.",
            "refinement_finish_reason": "stop",
            "direct": f"The teacher says \\boxed{{{first + second}}}.",
            "direct_finish_reason": "stop",
            "verdict": "wrong",
            "attempt_correct": False,
            "refinement_correct": True,
        }
        rows.append({**row, **overrides})
    return rows


def write_selected(directory: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Publish rows as the selection stage does."""
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / "selected.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SELECTED_SCHEMA), part)
    write_manifest(directory, "test", [part], {})
    return directory


def read_parts(directory: Path) -> pa.Table:
    """The rows of all Parquet files of a finished stage."""
    return pa.concat_tables([pq.read_table(part) for part in manifest_parts(directory) if part.suffix == ".parquet"])


def read_examples(directory: Path) -> pa.Table:
    """The examples of a finished directory, in the order of their record ids."""
    files = ExampleFiles(directory)
    return files.take(files.index_E)


def random_examples(count: int, *, seed: int = 0, shortest: int = 4, longest: int = 60) -> dict[str, Example]:
    """Examples of random tokens and lengths, by record id."""
    rng = random.Random(seed)
    examples = {}
    for index in range(count):
        length = rng.randint(shortest, longest)
        ids = [rng.randrange(3, VOCABULARY_SIZE) for _ in range(length)]
        examples[f"record-{index}"] = Example(input_ids=ids, prompt_length=rng.randint(1, length - 1))
    return examples


def prepared_examples(examples: dict[str, Example]) -> list[Prepared]:
    """The examples as they come from the preparation."""
    conversation = ArmExample(messages=[Message(role="user", content="")], target="")
    return [
        Prepared(record_id=name, arm="cgd", verdict="wrong", conversation=conversation, example=example, attempt_tokens_cut=0)
        for name, example in examples.items()
    ]


def packed_examples(directory: Path, training: TrainingConfig, examples: dict[str, Example]) -> Path:
    """Examples, packed and published; returns the packed directory."""
    write_examples(examples, directory / "examples", "test")
    pack(training.context_length, directory / "examples", directory / "packed")
    return directory / "packed"
