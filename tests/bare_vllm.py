"""vLLM as its own documentation uses it, greedy and in a process of its own: the oracle for what goes through our pipeline."""

import json
import subprocess
import sys
from collections.abc import Sequence

SCRIPT = """
import gc, json, sys
gc.disable()  # it would walk a million imported objects again and again
from cgd_ray.engines.vllm_engine import set_environment
set_environment(on_cpu=True)
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    job, engines, answers = json.load(sys.stdin), [], []  # the end of an engine would be that of the next one's process group
    for model, prompts in job["asked"]:
        engines.append(LLM(model, dtype="float32", enforce_eager=True, max_model_len=1024, kv_cache_memory_bytes=64 * 2**20))
        sampling = SamplingParams(temperature=0, max_tokens=job["max_tokens"])
        outputs = engines[-1].generate([{"prompt_token_ids": ids} for ids in prompts], sampling)
        answers.append([output.outputs[0].text for output in outputs])
    print("RESULT", json.dumps(answers))
"""


def bare_vllm(model: str, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
    """The model's greedy answers in float32; in bfloat16 a tie between two tokens falls one way or the other with the size of the batch."""
    (answers,) = bare_vllms([(model, prompts)], max_tokens)
    return answers


def bare_vllms(asked: Sequence[tuple[str, Sequence[Sequence[int]]]], max_tokens: int) -> list[list[str]]:
    """The same of several models, one after the other in one process."""
    job = json.dumps({"asked": asked, "max_tokens": max_tokens})
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=job, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    answers: list[list[str]] = json.loads(line.removeprefix("RESULT "))
    return answers
