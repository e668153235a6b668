"""The three contestants of benchmarks/generation.py: one job on standard input, one line `RESULT {...}` on standard output.

`python -m benchmarks.contestants {bare,pipeline,ray_data_llm} < job.json`; each needs a process of its own.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.workload import (
    Job,
    Outcome,
    WarmUp,
    engine_sampling,
    measured_tokens,
    sampling_arguments,
    tinymath_prompts,
    tokens_of_seed,
    work_list,
)
from cgd_ray.config import Config, RoleConfig, SamplingConfig
from cgd_ray.data.prompts import Message, Prompts
from cgd_ray.data.records import TURNS, Turn
from cgd_ray.data.rundir import RunDir, manifest_parts
from cgd_ray.engines.engine import Engine, Generation
from cgd_ray.engines.vllm_engine import VllmEngine, engine_arguments, set_environment
from cgd_ray.generation.stages import turn_seed
from cgd_ray.problems.work_list import write_work_list

Row = dict[str, Any]
ROWS_IN_FLIGHT = 128
"""In one engine of ray.data.llm and before it."""
LOGICAL_CPUS = 32
"""For ray.data.llm: each of its processors holds about four, used or not, and a chain of three waits for ever when they are too few."""


def messages_of(prompts: Prompts, row: Row, turn: Turn) -> Sequence[Message]:
    """The conversation that one call continues."""
    if turn == "attempt":
        return prompts.solve_messages(row["question"], prompts.student_system)
    if turn == "critique":
        return prompts.critique_messages(row["question"], row["attempt"])
    return prompts.refine_messages(row["question"], row["attempt"], row["critique"])


# (a) bare vLLM


def bare(job: Job) -> Outcome:
    """Three passes over all rows, one engine for each distinct model in this process, every request given to it at once."""
    os.environ["OMP_NUM_THREADS"] = str(job.layout.threads)
    set_environment(on_cpu=True)
    from vllm import LLM

    student, teacher = job.role("student"), job.role("teacher")
    engines = {"teacher": LLM(**engine_arguments(teacher))}
    engines["student"] = engines["teacher"] if student.model == teacher.model else LLM(**engine_arguments(student))
    work, warm_up = work_list(job), WarmUp(job.directory, job.warm_up)
    rows = work.to_pylist()
    for row in _three_passes(job, engines, rows[: job.warm_up]):
        assert row["refinement"] is not None
        warm_up.finish_row()
    _three_passes(job, engines, rows[job.warm_up :])
    return warm_up.outcome(time.time(), measured_tokens(job, work))


def _three_passes(job: Job, engines: dict[str, Any], rows: list[Row]) -> list[Row]:
    from vllm import SamplingParams

    from cgd_ray.data.chat import Chat

    prompts = tinymath_prompts()
    for turn in TURNS:
        role = "student" if turn == "attempt" else "teacher"
        chat = Chat.load(getattr(job, role))
        inputs = [{"prompt_token_ids": chat.prompt(messages_of(prompts, row, turn)).input_ids} for row in rows]
        params = [SamplingParams(**sampling_arguments(tokens_of_seed(job, turn_seed(0, row["record_id"], turn)))) for row in rows]
        outputs = engines[role].generate(inputs, params, use_tqdm=False)
        rows = [{**row, turn: output.outputs[0].text} for row, output in zip(rows, outputs, strict=True)]
    return rows


# (b) this project


class MeasuredEngine(VllmEngine):
    """The pipeline's engine with answers of given lengths, which lets measured rows begin when the warm-up is over."""

    def __init__(self, role: RoleConfig, job: Job, questions: frozenset[str]) -> None:
        super().__init__(role)
        self._job, self._questions = job, questions
        self._warm_up, self._num_attempts = WarmUp(job.directory, job.warm_up), 0

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """As the base class does it. The warm-up is whoever comes first, since those who come too early hold places while they wait."""
        if (question := messages[0].content) in self._questions:  # an attempt: tinymath's prompt is the question and nothing else
            self._num_attempts += 1
            if self._num_attempts <= self._job.warm_up:
                self._warm_up.begin_row(question)
            else:
                await self._warm_up.wait_async()
        generation = await super().generate(messages, sampling, seed)
        if len(messages) > 1:
            self._warm_up.finish_row()
        # the length is given, so that it is the answer's end and no cut; random tokens may come to nothing but white space
        return replace(generation, text=generation.text if generation.text.strip() else "-", finish_reason="stop")

    def sampling_params(self, sampling: SamplingConfig, max_tokens: int, seed: int) -> Any:
        """An answer of exactly the job's length for this turn."""
        return engine_sampling(min(max_tokens, tokens_of_seed(self._job, seed)))


@dataclass(frozen=True, kw_only=True)
class MeasuredEngines:
    """The factory; crosses processes."""

    job: Job
    questions: frozenset[str]

    def __call__(self, role: RoleConfig) -> Engine:
        return MeasuredEngine(role, self.job, self.questions)


def pipeline(job: Job) -> Outcome:
    """`cgd_ray.generation.pipeline.generate` under a Ray of its own, as the command line runs it."""
    from cgd_ray.cluster.connection import connected
    from cgd_ray.generation.pipeline import generate

    layout, run = job.layout, RunDir(job.directory)
    most_tokens = 4 * job.max_tokens if job.sigma else job.max_tokens
    student = job.role("student")
    teacher = job.role("teacher")
    sampling = SamplingConfig(max_tokens=most_tokens)
    tree = {
        "run_dir": job.directory,
        "problems": {"path": "unused"},
        "prompts": str(Path(job.directory) / "prompts.yaml"),
        "student": student.model_copy(update={"sampling": sampling}).model_dump(),
        "teacher": teacher.model_copy(update={"sampling": sampling}).model_dump(),
        "generation": {"batch_size": job.warm_up, "teacher_check": None},
    }
    (run.root / "prompts.yaml").write_text(json.dumps(asdict(tinymath_prompts())), encoding="utf-8")
    config, work, warm_up = Config.model_validate(tree), work_list(job), WarmUp(job.directory, job.warm_up)
    write_work_list(work, run.work_list)
    assert layout.student_replicas == 1, "one engine sees all attempts begin"
    questions = frozenset(work["question"].to_pylist())
    needed = layout.threads * layout.student_replicas + layout.teacher_threads * layout.teacher_replicas
    cluster = config.cluster.model_copy(update={"num_cpus": max(needed, os.cpu_count() or 1)})
    with connected(cluster):
        manifest = generate(config, run, engine_factory=MeasuredEngines(job=job, questions=questions))
        end = time.time()
    assert manifest["failed"] == 0, manifest["errors"]
    written = pa.concat_tables([pq.read_table(part) for part in manifest_parts(run.records)])
    measured = questions - warm_up.begun()
    tokens = sum(row[f"{turn}_tokens"] for row in written.to_pylist() if row["question"] in measured for turn in TURNS)
    return warm_up.outcome(end, tokens)


# (c) Ray's own processors


def ray_data_llm(job: Job) -> Outcome:
    """Three `ray.data.llm` processors in a chain, each with an engine of its own, in fixed pools of one."""
    os.environ["OMP_NUM_THREADS"] = str(job.layout.threads)
    # its engine's core is in a second process in any case; this spares it a third one, for the model, which would wait for work by spinning
    set_environment(on_cpu=True)
    import ray

    ray.init(address="local", num_cpus=LOGICAL_CPUS, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    work, warm_up, out = work_list(job), WarmUp(job.directory, job.warm_up), str(Path(job.directory) / "out")
    rows = [{"record_id": row["record_id"], "question": row["question"], "index": index} for index, row in enumerate(work.to_pylist())]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows) // job.warm_up)
    for turn in TURNS:
        dataset = _processor(job, turn)(dataset)
    dataset.write_parquet(out)
    end = time.time()
    written = pq.read_table(out).to_pylist()
    assert len(written) == work.num_rows
    return warm_up.outcome(end, sum(row[f"{turn}_tokens"] for row in written if row["index"] >= job.warm_up for turn in TURNS))


def _processor(job: Job, turn: Turn) -> Any:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    role = job.role("student" if turn == "attempt" else "teacher")
    arguments = {name: value for name, value in engine_arguments(role).items() if name != "model" and value is not None}
    config = vLLMEngineProcessorConfig(
        model_source=role.model,
        engine_kwargs=arguments,
        batch_size=job.warm_up,
        max_concurrent_batches=ROWS_IN_FLIGHT // job.warm_up,
        concurrency=(1, 1),
        placement_group_config={"bundle_per_worker": {"CPU": 1}},
        log_engine_metrics=False,
        chat_template_stage={"concurrency": (1, 1)},
        tokenize_stage={"concurrency": (1, 1)},
        detokenize_stage={"concurrency": (1, 1)},
    )
    return build_processor(
        config,
        preprocess=partial(_asked, job=job, turn=turn, prompts=tinymath_prompts()),
        postprocess=partial(_answered, job=job, turn=turn),
        preprocess_map_kwargs={"num_cpus": 0.01},
        postprocess_map_kwargs={"num_cpus": 0.01},
    )


def _asked(row: Row, job: Job, turn: Turn, prompts: Prompts) -> Row:
    if turn == TURNS[0] and row["index"] >= job.warm_up:
        WarmUp(job.directory, job.warm_up).wait()
    return {
        **row,
        "messages": [asdict(message) for message in messages_of(prompts, row, turn)],
        "sampling_params": sampling_arguments(tokens_of_seed(job, turn_seed(0, row["record_id"], turn))),
    }


def _answered(row: Row, job: Job, turn: Turn) -> Row:
    kept = {name: row[name] for name in ("record_id", "question", "index", *TURNS, *(f"{name}_tokens" for name in TURNS)) if name in row}
    if turn == TURNS[-1]:
        WarmUp(job.directory, job.warm_up).finish_row()
    return {**kept, turn: row["generated_text"], f"{turn}_tokens": row["num_generated_tokens"]}


CONTESTANTS: dict[str, Callable[[Job], Outcome]] = {"bare": bare, "pipeline": pipeline, "ray_data_llm": ray_data_llm}


def main() -> None:
    """Run one contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestant", choices=CONTESTANTS)
    contestant = CONTESTANTS[parser.parse_args().contestant]
    outcome = contestant(Job.loads(sys.stdin.read()))
    sys.stdout.write(f"RESULT {json.dumps(asdict(outcome))}\n")


if __name__ == "__main__":
    main()
