"""Trains the committed pair from scratch: tokenizer and corpora, then each model with the project's own trainer.

`python -m examples.tinymath.train_models --out DIR` (about 25 minutes on two CPU cores) leaves DIR/{student,teacher}/model/ ready to copy
over models/; `--tokens 200000` is a trial of two minutes that learns little. Everything follows from fixed seeds.
"""

import argparse
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cgd_ray.cluster.connection import connected
from cgd_ray.config import ClusterConfig, TrainingConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import load_prompts
from cgd_ray.data.records import short_hash
from cgd_ray.process.console import Screen
from cgd_ray.training.driver import train
from cgd_ray.training.examples.example_files import write_examples
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.job import TrainJob
from examples.tinymath.corpus import student_examples, take_tokens, teacher_examples, tokenizer_texts
from examples.tinymath.problems import committed_splits
from examples.tinymath.tokenizer import VOCABULARY_SIZE, save_tokenizer, train_tokenizer

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
SEED = 0
TRAINING = TrainingConfig(
    context_length=512,
    global_batch_size=8,
    micro_batch_size=4,
    learning_rate=3e-3,
    final_learning_rate_fraction=0.05,
    weight_decay=0.05,
    betas=(0.9, 0.98),
    num_workers=2,
    checkpoint_every_steps=500,
    seed=SEED,
)


@dataclass(frozen=True, kw_only=True)
class Role:
    """What differs between the two models."""

    num_tokens: int
    examples: Callable[..., Iterator[Example]]


ROLES = {
    "student": Role(num_tokens=6_500_000, examples=student_examples),
    "teacher": Role(num_tokens=9_000_000, examples=teacher_examples),
}


def write_initial_model(directory: Path) -> Chat:
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
    torch.manual_seed(SEED)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=padding)
    model.save_pretrained(directory)
    save_tokenizer(tokenizer, directory)
    return Chat.load(str(directory))


def prepare(role: Role, root: Path, num_tokens: int) -> int:
    """Write initial weights and the packed corpus under root; returns the number of optimizer steps it makes."""
    chat = write_initial_model(root / "initial")
    prompts = load_prompts(str(HERE / "prompts.yaml"))
    committed = {problem.problem_id for split in committed_splits().values() for problem in split}
    corpus = take_tokens(role.examples(chat, prompts, committed, SEED), num_tokens)
    write_examples(corpus, root / "examples", short_hash(f"{root.name} {num_tokens}"))
    packed = pack(TRAINING.context_length, root / "examples", root / "packed")
    logger.info("%s: %s", root.name, packed)
    return -(-int(packed["rows"]) // TRAINING.global_batch_size)


def job_of(root: Path) -> TrainJob:
    """The training of one model in its directory."""
    return TrainJob(
        training=TRAINING.model_dump(mode="json"),
        model=str(root / "initial"),
        packed=str(root / "packed"),
        checkpoints=str(root / "checkpoints"),
        metrics=str(root / "metrics.jsonl"),
        export_to=str(root / "model"),
    )


def main() -> None:
    """Train both models, or one, one after the other."""
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--role", choices=list(ROLES), help="only this model")
    parser.add_argument("--tokens", type=int, help="tokens of the corpus, instead of the role's own number")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with Screen(out / "log.txt") as screen, connected(ClusterConfig()):
        for name in [arguments.role] if arguments.role else ROLES:
            root = out / name
            num_steps = prepare(ROLES[name], root, arguments.tokens or ROLES[name].num_tokens)
            with screen.progress(name, num_steps, "steps") as bar:
                train(
                    job_of(root),
                    lambda step, bar=bar: bar.update(int(step["train/step"]), f"loss {step['train/loss']:.3f}"),  # type: ignore[misc]
                )


if __name__ == "__main__":
    main()
