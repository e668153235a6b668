"""vLLM as its own documentation uses it, greedy and in a process of its own: the oracle for what goes through our pipeline.

One process answers all tests, as its imports take longer than its answers; it ends with its standard input.
"""

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO

SCRIPT = """
import gc, json, sys
gc.disable()  # it would walk a million imported objects again and again
from cgd_ray.engines.vllm_engine import set_environment
set_environment(on_cpu=True)
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    engines = {}  # kept, as the end of an engine would be that of the next one's process group
    for line in sys.stdin:
        model, prompts, max_tokens = json.loads(line)
        if model not in engines:
            engines[model] = LLM(model, dtype="float32", enforce_eager=True, max_model_len=1024, kv_cache_memory_bytes=64 * 2**20)
        sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
        outputs = engines[model].generate([{"prompt_token_ids": ids} for ids in prompts], sampling)
        print("RESULT", json.dumps([output.outputs[0].text for output in outputs]), flush=True)
"""


def bare_vllm(model: str, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
    """The model's greedy answers in float32; in bfloat16 a tie between two tokens falls one way or the other with the size of the batch."""
    process, errors = _oracle()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([model, prompts, max_tokens]) + "\n")
    process.stdin.flush()
    line = next((line for line in process.stdout if line.startswith("RESULT ")), None)
    if line is None:
        errors.seek(0)
        raise AssertionError(errors.read()[-3000:])
    answers: list[str] = json.loads(line.removeprefix("RESULT "))
    return answers


@functools.cache
def _oracle() -> tuple["subprocess.Popen[str]", IO[str]]:
    """The process, and the file that its errors go to."""
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open for as long as the process writes to it)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
    return process, errors
