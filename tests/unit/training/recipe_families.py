"""The recipes' families in small: each with its model's architecture, its special tokens, and the text of its chat template.

Llama's and Qwen's templates are the originals that TRL keeps to compare others with. Those of Mixtral (its newer revisions')
and OLMo 2 are written anew after their tokenizer_config.json, and render the same text. s1.1 has Qwen2.5-Instruct's; Qwen2.5-Math's
differs from it by the system message that it writes where there is none.
How to use: `chat = FAMILIES["olmo2_7b"].save(path)`; `FAMILIES["olmo2_7b"].config(len(chat.tokenizer))`.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from cgd_ray.config import Config, read_config
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.planning.models.facts import known_models
from tests.unit.data.test_chat import OLMO

RECIPES = Path(__file__).parents[3] / "jobs" / "configs" / "recipes"
MIXTRAL = (
    "{% set system = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}{{ bos_token }}"
    "{% for message in (messages[1:] if system else messages) %}"
    "{% if message['role'] == 'user' and loop.index0 % 2 == 0 %}"
    "{{ ' [INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' and loop.index0 % 2 == 1 %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('roles must alternate user/assistant') }}{% endif %}{% endfor %}"
)
OF_QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
OF_QWEN_MATH = "Please reason step by step, and put your final answer within \\\\boxed{}."  # in a string of Jinja's
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXT = "What is 12 + 7? Add the ones, then the tens: \\boxed{19}. Conclusion: wrong. user assistant system [INST] [/INST] think answer"


def from_trl(name: str) -> str:
    """A template that TRL ships as its model's own."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def byte_level(special: Sequence[str]) -> Tokenizer:
    """As Llama 3, Qwen and OLMo 2 have it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT] * 3, trainers.BpeTrainer(vocab_size=340, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def metaspace(special: Sequence[str]) -> Tokenizer:
    """As Mixtral has it: a space is put before every text, and bytes stand for what the vocabulary lacks."""
    letters = sorted({*TEXT} - {" "})
    signs = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    tokenizer = Tokenizer(models.BPE({sign: index for index, sign in enumerate(signs)}, [], byte_fallback=True, unk_token=special[0]))
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family, named like its recipe."""

    recipe: str
    template: str
    special: Sequence[str]
    bos: str | None
    eos: str
    end: str
    """What ends a turn."""

    @cached_property
    def settings(self) -> Config:
        """The recipe."""
        return read_config(RECIPES / f"{self.recipe}.yaml")

    @property
    def prompts(self) -> Prompts:
        """The recipe's wording."""
        return load_prompts(self.settings.prompts)

    def config(self, vocabulary_size: int) -> Any:
        """The model's own, but small."""
        known = known_models()[self.settings.student.model]["config"]
        key_heads = 4 if known["num_key_value_heads"] == known["num_attention_heads"] else 2
        small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        experts = {"num_local_experts": 4} if "num_local_experts" in known else {}
        ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        return AutoConfig.for_model(**{**known, **small, **experts, **ids, "num_key_value_heads": key_heads, "vocab_size": vocabulary_size})

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """With a post-processor that puts a BOS before every text, where the family's has one."""
        made = metaspace(self.special) if "<s>" in self.special else byte_level(self.special)
        if self.bos is not None and self.bos != self.eos:
            made.post_processor = processors.TemplateProcessing(f"{self.bos} $A", special_tokens=[(self.bos, made.token_to_id(self.bos))])
        control = {"bos_token": self.bos, "eos_token": self.eos}
        return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=self.template, clean_up_tokenization_spaces=False, **control)

    def save(self, directory: Path) -> Any:
        """Save a randomly initialised model with its tokenizer and return it, in fp32."""
        tokenizer = self.tokenizer()
        torch.manual_seed(0)
        causal_lm = AutoModelForCausalLM.from_config(self.config(len(tokenizer)), dtype=torch.float32).eval()
        causal_lm.save_pretrained(directory)
        tokenizer.save_pretrained(str(directory))
        return causal_lm

    def chat(self) -> Chat:
        """As the recipe's student has it."""
        student = self.settings.student
        return Chat(self.tokenizer(), student.chat_template_kwargs, student.thinking)


FAMILIES = {
    family.recipe: family
    for family in (
        Family(
            recipe="llama31_8b",
            template=from_trl("llama3_1"),
            special=(
                "<|begin_of_text|>",
                "<|end_of_text|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eom_id|>",
                "<|eot_id|>",
                "<|python_tag|>",
            ),
            bos="<|begin_of_text|>",
            eos="<|eot_id|>",
            end="<|eot_id|>",
        ),
        Family(recipe="s1_3b", template=from_trl("qwen2_5"), special=CHATML_TOKENS, bos=None, eos="<|im_end|>", end="<|im_end|>"),
        Family(
            recipe="qwen25_math_7b_s1",
            template=from_trl("qwen2_5").replace(OF_QWEN, OF_QWEN_MATH),
            special=CHATML_TOKENS,
            bos=None,
            eos="<|endoftext|>",  # it is a base model, whose documents end so
            end="<|im_end|>",
        ),
        Family(recipe="mixtral_8x7b", template=MIXTRAL, special=("<unk>", "<s>", "</s>"), bos="<s>", eos="</s>", end="</s>"),
        Family(
            recipe="olmo2_7b",
            template=OLMO,
            special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"),
            bos="<|endoftext|>",
            eos="<|endoftext|>",
            end="<|endoftext|>",
        ),
    )
}
