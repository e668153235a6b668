"""The parts of gpu_check.py that are no benchmark of their own: what is installed, the attention kernel, engines, the whole job.

`python -m benchmarks.gpu_parts PART [--reduced] [--json PATH]`; an AssertionError is a part that failed.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import write_figures

CONFIG = "jobs/configs/tinymath.yaml"
LENGTHS = [700, 1, 333, 1014]
"""Of the examples of a packed row: 2,048 tokens."""
TOLERANCE = 0.02
"""Of logits in bfloat16, relative to their standard deviation, to those of each example alone in float32; they agree to about 8 bits."""
LEAST_GAIN = 0.1
"""Accuracy that the demo's training must gain."""

Figures = dict[str, Any]


def imports(reduced: bool) -> Figures:
    """All packages can be imported, and see the GPU."""
    import deepspeed
    import ray
    import torch
    import transformers
    import vllm

    found: Figures = {package.__name__: package.__version__ for package in (torch, vllm, deepspeed, ray, transformers)}
    if reduced:
        return found
    assert torch.cuda.is_available(), "torch sees no GPU"
    properties = torch.cuda.get_device_properties(0)
    return {
        **found,
        "cuda": torch.version.cuda,
        "device": properties.name,
        "memory_gib": properties.total_memory / 2**30,
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
    }


def attention(reduced: bool) -> Figures:
    """A packed row in bfloat16 by this device's kernel gives the logits of each example alone in float32 under eager attention."""
    import torch
    from transformers import Qwen3ForCausalLM

    from cgd_ray.training.model.attention import PACKED_ATTENTION, has_flash_attention
    from tests.builders import VOCABULARY_SIZE, tiny_config

    device = "cpu" if reduced else "cuda"
    config = tiny_config(hidden_size=256, head_dim=64, max_position_embeddings=2048)
    models = []
    for implementation, dtype in ((PACKED_ATTENTION, torch.bfloat16), ("eager", torch.float32)):
        torch.manual_seed(0)
        models.append(Qwen3ForCausalLM._from_config(config, attn_implementation=implementation, dtype=torch.float32).to(device, dtype))
    packed, eager = models
    torch.manual_seed(1)
    ids = torch.randint(VOCABULARY_SIZE, (1, sum(LENGTHS)), device=device)
    positions = torch.cat([torch.arange(length, device=device) for length in LENGTHS])[None]
    with torch.no_grad():
        together = packed(input_ids=ids, position_ids=positions, use_cache=False, example_lengths=LENGTHS).logits[0].float()
        alone = torch.cat([eager(input_ids=part, use_cache=False).logits[0] for part in ids.split(LENGTHS, dim=1)])
    heads = torch.zeros(1, 64, dtype=torch.bfloat16, device=device)
    error = float(((together - alone).square().mean().sqrt() / alone.std()).item())
    kernel = "flash, variable length" if has_flash_attention(heads, heads) else "a loop over examples"
    assert error < TOLERANCE, f"{kernel}: relative error {error:.4f}"
    return {"kernel": kernel, "relative_error": error}


def engine(reduced: bool) -> Figures:
    """One engine, on a whole GPU, answers the embedded problems."""
    from cgd_ray.config import load_config
    from cgd_ray.data.prompts import load_prompts
    from cgd_ray.engines.vllm_engine import VllmEngine, set_environment

    config = load_config(CONFIG, _placed(reduced, 1.0))
    questions = [
        json.loads(line)["question"] for line in Path(str(config.problems.path)).read_text().splitlines()[: 16 if reduced else 256]
    ]
    prompts, began = load_prompts(config.prompts), time.monotonic()
    set_environment(on_cpu=reduced)
    student = VllmEngine(config.student)
    started = time.monotonic()

    async def answers() -> list[Any]:
        asked = (prompts.solve_messages(question, None) for question in questions)
        return await asyncio.gather(*(student.generate(messages, config.student.sampling, seed=0) for messages in asked))

    found = asyncio.run(answers())
    seconds = time.monotonic() - started
    student.close()
    boxed = sum("\\boxed" in answer.text for answer in found)
    assert boxed > len(found) / 2, f"{boxed} of {len(found)} answers have a box"
    tokens = sum(answer.num_tokens for answer in found)
    return {"start_s": started - began, "answers": len(found), "boxed": boxed, "tokens_per_s": tokens / seconds}


def engines(reduced: bool) -> Figures:
    """Student and teacher side by side, half a GPU each, make records."""
    summary = _job("generate", reduced, f"problems.limit={16 if reduced else 128}")
    assert summary["records"]["failed"] == 0, summary["records"]
    return {"records": summary["records"], "repair": summary["repair"], "seconds": summary["seconds"]["generate"]}


def demo(reduced: bool) -> Figures:
    """The whole job: records, training and evaluation, on one GPU."""
    small = ("problems.limit=24", "training.num_epochs=1", "evaluation.problems.limit=16") if reduced else ("problems.limit=512",)
    training = (f"training.use_gpu={str(not reduced).lower()}", "training.num_workers=1")
    summary = _job("run", reduced, *small, *training)
    before, after = (summary["evaluation"][model]["problems"]["avg@k"] for model in ("base", "trained"))
    assert reduced or after > before + LEAST_GAIN, f"{before:.3f} -> {after:.3f}"
    return {"before": before, "after": after, "seconds": summary["seconds"], "precision": summary["precision"]}


def _placed(reduced: bool, share: float) -> list[str]:
    """Both roles on the GPU, or nowhere special."""
    return [] if reduced else [f"{role}.placement.gpus_per_replica={share:g}" for role in ("student", "teacher")]


def _job(command: str, reduced: bool, *settings: str) -> Mapping[str, Any]:
    """The summary of a run of the embedded models."""
    from cgd_ray.cli import main as cgd

    with tempfile.TemporaryDirectory() as root:
        code = cgd([command, CONFIG, f"run_dir={root}/run", *_placed(reduced, 0.5), *settings])
        assert code == 0, f"exit code {code}"
        summary: Mapping[str, Any] = json.loads((Path(root) / "run" / "summary.json").read_text(encoding="utf-8"))
        return summary


PARTS: Mapping[str, Callable[[bool], Figures]] = {
    "imports": imports,
    "attention": attention,
    "engine": engine,
    "engines": engines,
    "demo": demo,
}


def main() -> None:
    """Run a part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    write_figures(PARTS[arguments.part](arguments.reduced), arguments.json)


if __name__ == "__main__":
    main()
