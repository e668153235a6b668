"""Trains the committed pair from scratch: tokenizer, corpora, then both models with the project's own trainer.

`python -m examples.tinymath.train_models --out DIR` (about 25 minutes on two CPU cores) leaves DIR/{student,teacher}/ ready to copy
over models/; `--tokens 200000` is a trial of a minute that learns little. Everything follows from fixed seeds.
"""

import argparse
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from cgd_ray.chat import Chat, Example
from cgd_ray.prompts import load_prompts
from examples.tinymath.corpus import student_examples, teacher_examples, tokenizer_texts, write_examples
from examples.tinymath.problems import committed_splits
from examples.tinymath.tokenizer import VOCABULARY_SIZE, save_tokenizer, train_tokenizer

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Role:
    """What differs between the two models."""

    num_tokens: int
    examples: Callable[..., Iterator[Example]]


ROLES = {
    "student": Role(num_tokens=6_500_000, examples=student_examples),
    "teacher": Role(num_tokens=9_000_000, examples=teacher_examples),
}


def write_initial_model(directory: Path, seed: int) -> Chat:
    """Save the tokenizer and random weights of the tiny Qwen3 (0.86M parameters, embeddings tied); returns its chat."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    tokenizer = train_tokenizer(tokenizer_texts())
    end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = Qwen3Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # the smallest that vLLM's CPU attention knows
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=padding,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=padding)
    model.save_pretrained(directory)
    save_tokenizer(tokenizer, directory)
    return Chat.load(str(directory))


def train_role(role: str, out: Path, num_tokens: int | None, seed: int) -> None:
    """Make one model: initial weights, corpus, pre-training."""
    from examples.tinymath.pretrain import pretrain, read_examples

    chat = write_initial_model(out / role, seed)
    prompts = load_prompts(str(HERE / "prompts.yaml"))
    committed = {problem.problem_id for split in committed_splits().values() for problem in split}
    corpus = out / "corpus" / f"{role}.parquet"
    num_examples = write_examples(ROLES[role].examples(chat, prompts, committed, seed), num_tokens or ROLES[role].num_tokens, corpus)
    logger.info("%s: %d examples in %s", role, num_examples, corpus)
    pretrain(out / role, read_examples(corpus), seed)


def main() -> None:
    """Train one model or, in two processes of one thread each, both."""
    logging.basicConfig(level=logging.INFO, format="%(processName)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--role", choices=list(ROLES), help="only this model")
    parser.add_argument("--tokens", type=int, help="tokens of the corpus, instead of the role's own number")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    roles = [arguments.role] if arguments.role else list(ROLES)
    with ProcessPoolExecutor(len(roles), mp_context=get_context("spawn"), initializer=_log_in_worker) as pool:
        for done in [pool.submit(train_role, role, arguments.out, arguments.tokens, arguments.seed) for role in roles]:
            done.result()


def _log_in_worker() -> None:
    logging.basicConfig(level=logging.INFO, format="%(processName)s %(message)s")


if __name__ == "__main__":
    main()
