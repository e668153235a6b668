"""vLLM's two front ends for the engine actor: its synchronous engine stepped by a thread, as this project does, and its asynchronous one.

`python -m benchmarks.front_end --json build/front_end.json` (about three minutes on two idle CPU cores; no Ray). Either serves the same
requests from one asyncio loop, all at once, with as many places in the engine, in a process of its own: the embedded teacher, and a model
of 104M parameters with random weights. Start-up is from the start of the process to the first answer of a single request; CPU seconds are
those of the process and its children, since the asynchronous engine keeps its core in a second process.
"""

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import write_figures
from benchmarks.generation import large_model
from benchmarks.workload import TINYMATH, engine_sampling, tinymath_prompts
from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message
from cgd_ray.engines.vllm_engine import VllmEngine, engine_arguments, set_environment

Answer = Callable[[Sequence[Message]], Awaitable[int]]
"""One request; gives the number of its tokens."""
RESULT = "RESULT "
FRONT_ENDS = ("thread", "async")
PLACES = 32
RUNS = {"tiny": {"rows": 512, "max_tokens": 64}, "large": {"rows": 96, "max_tokens": 48}}


def make_role(model: str, max_tokens: int) -> RoleConfig:
    """A directory without weights gets random ones."""
    has_weights = any(Path(model).glob("*.safetensors"))
    return RoleConfig.model_validate(
        {
            "model": model,
            "context_length": 1024,
            "sampling": {"max_tokens": max_tokens},
            "engine": {} if has_weights else {"load_format": "dummy"},
            "placement": {"requests_in_flight": PLACES},
        }
    )


class _FixedLength(VllmEngine):
    """The project's engine with answers of exactly so many tokens."""

    def sampling_params(self, sampling: SamplingConfig, max_tokens: int, seed: int) -> Any:
        return engine_sampling(max_tokens)


def by_thread(role: RoleConfig) -> Answer:
    """This project's way."""
    engine = _FixedLength(role)

    async def answer(messages: Sequence[Message]) -> int:
        return (await engine.generate(messages, role.sampling, seed=0)).num_tokens

    return answer


def by_async_engine(role: RoleConfig) -> Answer:
    """vLLM's AsyncLLM; to be called in the event loop."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"  # it has no other way
    set_environment(on_cpu=True)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    chat = Chat.load(role.model)
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_arguments(role)))
    params = engine_sampling(role.sampling.max_tokens)
    names = itertools.count()

    async def answer(messages: Sequence[Message]) -> int:
        prompt: Any = {"prompt_token_ids": chat.prompt(messages).input_ids}
        outputs = [output async for output in engine.generate(prompt, params, str(next(names)))]
        return len(outputs[-1].outputs[0].token_ids)

    return answer


async def measure(front_end: str, role: RoleConfig, rows: int, started: float) -> dict[str, float]:
    """One front end in this process."""
    answer = (by_thread if front_end == "thread" else by_async_engine)(role)
    prompts = tinymath_prompts()
    lines = (TINYMATH / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()[: rows + 1]
    first, *others = [prompts.solve_messages(json.loads(line)["question"], None) for line in lines]
    await answer(first)
    startup_s, startup_cpu_s = time.time() - started, _cpu_s()
    begun = time.monotonic()
    tokens = sum(await asyncio.gather(*map(answer, others)))
    seconds = time.monotonic() - begun
    return {
        "tokens_per_s": tokens / seconds,
        "tokens_per_cpu_s": tokens / (_cpu_s() - startup_cpu_s),
        "startup_s": startup_s,
        "startup_cpu_s": startup_cpu_s,
    }


def _cpu_s() -> float:
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def compare(model: str, rows: int, max_tokens: int) -> dict[str, Any]:
    """Both front ends on one model, each in a process of its own."""
    figures = {}
    for front_end in FRONT_ENDS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.front_end",
            "--measure",
            front_end,
            model,
            str(rows),
            str(max_tokens),
            str(time.time()),
        ]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        line = next(line for line in output.splitlines() if line.startswith(RESULT))
        figures[front_end] = json.loads(line.removeprefix(RESULT))
    thread, asynchronous = (figures[name] for name in FRONT_ENDS)
    ratio = thread["tokens_per_s"] / asynchronous["tokens_per_s"]
    return {**figures, "ratio_to_async": ratio, "startup_ratio_to_async": thread["startup_s"] / asynchronous["startup_s"]}


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        front_end, model, rows, max_tokens, started = arguments.measure
        figures = asyncio.run(measure(front_end, make_role(model, int(max_tokens)), int(rows), float(started)))
        sys.stdout.write(f"{RESULT}{json.dumps(figures)}\n")
        sys.stdout.flush()
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(0)  # neither engine is worth waiting for
    with tempfile.TemporaryDirectory() as directory:
        models = {"tiny": str(TINYMATH / "models" / "teacher"), "large": large_model(Path(directory) / "model")}
        write_figures({name: compare(models[name], **run) for name, run in RUNS.items()}, arguments.json)


if __name__ == "__main__":
    main()
