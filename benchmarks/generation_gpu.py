"""One GPU: tokens per second of this pipeline beside the bare engine, 3,072 requests of 1,000 tokens in and 1,000 tokens out.

`python -m benchmarks.generation_gpu [--json PATH]`: the shape of Qwen2.5-1.5B with random weights in bf16, random prompts (no prefix is
shared), end tokens ignored. Either contestant runs in a process of its own, with the same engine arguments:

- bare: vLLM's `LLM.generate` with vLLM's own process layout, every request given to the engine at once;
- pipeline: `run_attempts` under a local Ray, its answers written, checked and published.

Eight warm-up requests go first; tokens per second count the others, from the end of the warm-up to the last row. `--shape small` shows on
any machine, without a GPU too, that the script runs.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import write_figures
from benchmarks.training_gpu import SHAPES
from benchmarks.workload import Outcome, WarmUp, engine_sampling, sampling_arguments
from cgd_ray.config import ClusterConfig, RoleConfig, SamplingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import PROBLEM_SCHEMA
from cgd_ray.data.rundir import manifest_parts
from cgd_ray.engines.engine import Engine, Generation
from cgd_ray.engines.vllm_engine import VllmEngine, engine_arguments, set_environment
from cgd_ray.problems.work_list import make_work_list, write_work_list
from tests.builders import tiny_config

RESULT = "RESULT "
WARM_UP = 8
PROMPTS = Prompts(solve="{question}")


@dataclass(frozen=True, kw_only=True)
class Load:
    """One contestant's task; crosses processes as JSON."""

    model: str
    """Directory without weights, which the engines make up."""
    rows: int
    """Measured requests."""
    prompt_tokens: int
    answer_tokens: int
    places: int
    """Requests that the engine holds at once."""
    gpus: int
    engine: dict[str, Any]
    """Further vLLM engine arguments."""
    directory: str
    """Receives what the contestant writes."""

    def role(self) -> RoleConfig:
        """In this project's words."""
        return RoleConfig.model_validate(
            {
                "model": self.model,
                "context_length": self.prompt_tokens + self.answer_tokens,
                "sampling": {"max_tokens": self.answer_tokens},
                "engine": {"load_format": "dummy", "dtype": "bfloat16", **self.engine},
                "placement": {"gpus_per_replica": self.gpus, "requests_in_flight": self.places},
            }
        )

    def work_list(self) -> pa.Table:
        """Warm-up and measured rows (WORK_SCHEMA): one token a word, drawn from the whole vocabulary."""
        words = json.loads((Path(self.model) / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        draw = random.Random(0)
        questions = [" ".join(str(draw.randrange(words - 1)) for _ in range(self.prompt_tokens)) for _ in range(WARM_UP + self.rows)]
        problems = [{"problem_id": str(index), "question": question} for index, question in enumerate(questions)]
        return make_work_list(pa.Table.from_pylist(problems, schema=PROBLEM_SCHEMA), num_samples=1)


def save_model(directory: Path, shape: str, context_length: int) -> str:
    """A configuration, and a tokenizer whose tokens are numbers, written out, and one that ends; the chat template adds nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    config = tiny_config(**{**SHAPES[shape], "max_position_embeddings": context_length, "dtype": "bfloat16"})
    config.architectures = ["Qwen3ForCausalLM"]
    config.eos_token_id = config.vocab_size - 1
    config.save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({str(index): index for index in range(config.eos_token_id)}, unk_token="0"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    end = "<end>"
    tokenizer.add_special_tokens([end])
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, chat_template=template).save_pretrained(str(directory))
    return str(directory)


def bare(load: Load) -> Outcome:
    """One pass, as vLLM's users write it."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"  # vLLM's default: its core beside the process that asks
    set_environment(on_cpu=load.gpus == 0)
    from vllm import LLM, SamplingParams

    llm, chat, warm_up = LLM(**engine_arguments(load.role())), Chat.load(load.model), WarmUp(load.directory, WARM_UP)
    questions = load.work_list()["question"].to_pylist()
    prompts = [{"prompt_token_ids": chat.prompt(PROMPTS.solve_messages(question, None)).input_ids} for question in questions]
    params = SamplingParams(**sampling_arguments(load.answer_tokens))
    llm.generate(prompts[:WARM_UP], params, use_tqdm=False)
    for _ in range(WARM_UP):
        warm_up.finish_row()
    outputs = llm.generate(prompts[WARM_UP:], params, use_tqdm=False)
    return warm_up.outcome(time.time(), sum(len(output.outputs[0].token_ids) for output in outputs))


class _MeasuredEngine(VllmEngine):
    """The pipeline's engine with answers of exactly so many tokens; those who come after the warm-up's requests wait for its end."""

    def __init__(self, role: RoleConfig, directory: str) -> None:
        super().__init__(role)
        self._warm_up, self._num_begun = WarmUp(directory, WARM_UP), 0

    async def generate(self, messages: Any, sampling: SamplingConfig, seed: int) -> Generation:
        self._num_begun += 1
        if self._num_begun > WARM_UP:
            await self._warm_up.wait_async()
        generation = await super().generate(messages, sampling, seed)
        self._warm_up.finish_row()
        return generation

    def sampling_params(self, sampling: SamplingConfig, max_tokens: int, seed: int) -> Any:
        return engine_sampling(max_tokens)


@dataclass(frozen=True, kw_only=True)
class _MeasuredEngines:
    """The factory; crosses processes."""

    directory: str

    def __call__(self, role: RoleConfig) -> Engine:
        return _MeasuredEngine(role, self.directory)


def pipeline(load: Load) -> Outcome:
    """`run_attempts` under a Ray of its own."""
    from cgd_ray.cluster.connection import connected
    from cgd_ray.generation.pipeline import run_attempts

    root, warm_up = Path(load.directory), WarmUp(load.directory, WARM_UP)
    write_work_list(load.work_list(), root / "work.parquet")
    with connected(ClusterConfig(num_cpus=os.cpu_count())):
        engines = _MeasuredEngines(directory=load.directory)
        run_attempts(load.role(), PROMPTS, root / "work.parquet", root / "answers", None, engine_factory=engines)
        end = time.time()
    written = pa.concat_tables([pq.read_table(part, columns=["attempt_tokens"]) for part in manifest_parts(root / "answers")])
    assert written.num_rows == load.rows + WARM_UP
    return warm_up.outcome(end, sum(written["attempt_tokens"].to_pylist()) - WARM_UP * load.answer_tokens)


CONTESTANTS: dict[str, Callable[[Load], Outcome]] = {"bare": bare, "pipeline": pipeline}


def measure(contestant: str, load: Load) -> dict[str, float]:
    """One contestant in a process of its own."""
    Path(load.directory).mkdir()
    command = [sys.executable, "-m", "benchmarks.generation_gpu", "--measure", contestant]
    started = time.time()
    output = subprocess.run(command, input=json.dumps(asdict(load)), check=True, stdout=subprocess.PIPE, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith(RESULT))
    outcome = Outcome(**json.loads(line.removeprefix(RESULT)))
    seconds = outcome.end - outcome.warm
    figures = {
        "tokens_per_s": outcome.tokens / seconds,
        "startup_s": outcome.first_row - started,
        "tokens": outcome.tokens,
        "seconds": seconds,
    }
    sys.stdout.write(f"{contestant:<10} {figures['tokens_per_s']:>10,.0f} tokens/s, start-up {figures['startup_s']:.1f} s\n")
    sys.stdout.flush()
    return figures


def _hardware() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-1.5b")
    parser.add_argument("--rows", type=int, default=3072, help="measured requests")
    parser.add_argument("--tokens", type=int, default=1000, help="of a prompt, and of an answer")
    parser.add_argument("--places", type=int, default=1024, help="requests that the engine holds at once")
    parser.add_argument("--gpus", type=int, default=1, help="0 runs vLLM's CPU build")
    parser.add_argument("--engine", type=json.loads, default={}, help="further vLLM engine arguments as JSON, for both")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        outcome = CONTESTANTS[arguments.measure](Load(**json.load(sys.stdin)))
        sys.stdout.write(f"{RESULT}{json.dumps(asdict(outcome))}\n")
        return
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as root:
        model = save_model(Path(root) / "model", arguments.shape, 2 * arguments.tokens)
        for contestant in arguments.contestants:
            load = Load(
                model=model,
                rows=arguments.rows,
                prompt_tokens=arguments.tokens,
                answer_tokens=arguments.tokens,
                places=arguments.places,
                gpus=arguments.gpus,
                engine=arguments.engine,
                directory=str(Path(root) / contestant),
            )
            figures[contestant] = measure(contestant, load)
    if figures.keys() == CONTESTANTS.keys():
        figures["ratio_to_bare"] = figures["pipeline"]["tokens_per_s"] / figures["bare"]["tokens_per_s"]
    details = {"hardware": _hardware(), "torch": version("torch"), "ray": version("ray")}
    write_figures({**figures, "shape": arguments.shape, "engine": arguments.engine, **details}, arguments.json)


if __name__ == "__main__":
    main()
