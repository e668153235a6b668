"""Whole trainings: the same numbers from every ZeRO stage, number of workers, chunk size and interruption, and an export that serves."""

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import Prompts
from cgd_ray.engines.adapters import merge, read_adapter
from cgd_ray.training.driver import TrainingStoppedError, begin, explain, train
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.examples.writing import make_examples
from cgd_ray.training.feed.plan import PackedPlan
from cgd_ray.training.feed.rows import PackedRows
from cgd_ray.training.job import TrainJob
from cgd_ray.training.observe.metrics import read_metrics
from tests.bare_vllm import bare_vllm
from tests.builders import VOCABULARY_SIZE, packed_examples, random_examples, tiny_adapter, tiny_model, tiny_records, write_selected
from tests.distributed import run_ranks

INTERRUPTED_AFTER = 4  # of 6 steps
LONG = {"num_epochs": 10, "zero_stage": 3}  # 30 steps


def make_training(**settings: Any) -> TrainingConfig:
    base = {
        "arm": "refined_only",
        "context_length": 512,
        "num_epochs": 2,
        "global_batch_size": 8,
        "learning_rate": 2e-3,
        "precision": "fp32",
        "num_workers": 2,
        "weight_decay": 0.1,
        "logits_chunk_tokens": 64,
    }
    return TrainingConfig(**{**base, **settings})


@dataclass(frozen=True)
class Data:
    """What all trainings here start from, and where they write."""

    root: Path
    model: str
    packed: Path

    def job(self, name: str, **settings: Any) -> TrainJob:
        run = self.root / name
        return TrainJob(
            training=make_training(**settings).model_dump(mode="json"),
            model=self.model,
            packed=str(self.packed),
            checkpoints=str(run / "checkpoints"),
            metrics=str(run / "metrics.jsonl"),
            export_to=str(run / "model"),
        )

    def losses(self, name: str) -> list[float]:
        return [line["train/loss"] for line in read_metrics(self.root / name / "metrics.jsonl")]

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        weights: dict[str, torch.Tensor] = load_file(self.root / name / "model" / "model.safetensors")
        return weights


class InterruptionError(Exception):
    """Stands for a kill right after a checkpoint."""


def train_all(jobs: list[TrainJob], interrupted: list[str]) -> None:
    """Run on each rank. A job whose export is in `interrupted` is ended once, with its newest checkpoint torn, and then started again."""
    from cgd_ray.training.loop import run_training

    def interrupt(metrics: dict[str, float], checkpoint: Path) -> None:
        if metrics["train/step"] == INTERRUPTED_AFTER:
            (checkpoint / "manifest.json").unlink(missing_ok=True)
            raise InterruptionError

    for job in jobs:
        if job.export_to in interrupted:
            with contextlib.suppress(InterruptionError):
                run_training(job, interrupt)
        run_training(job)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A tied model in fp32 and packed rows whose number leaves the second rank without any row in an epoch's last step."""
    root = tmp_path_factory.mktemp("training")
    model = tiny_model(root / "initial", dtype=torch.float32)
    selected = write_selected(root / "selected", tiny_records(100))
    make_examples(make_training(), Chat.load(str(model)), Prompts(), selected, root / "examples")
    report = pack(512, root / "examples", root / "packed")
    assert 0 < report["rows"] % 8 <= 4, report
    return Data(root=root, model=str(model), packed=root / "packed")


@pytest.fixture(scope="module")
def trained(data: Data) -> Data:
    """All trainings that are compared below, in one process group of two ranks and one of a single rank."""
    settings: dict[str, dict[str, Any]] = {
        **{f"zero{stage}": {"zero_stage": stage} for stage in range(4)},
        "bf16-zero2": {"zero_stage": 2, "precision": "bf16"},
        "recomputed": {"activation_checkpointing": True},
        "recomputed-zero3": {"activation_checkpointing": True, "zero_stage": 3},
        "small-chunks": {"logits_chunk_tokens": 7},
        "larger-micro-batches": {"micro_batch_size": 2},
        "resumed": {"checkpoint_every_steps": 2},
        "resumed-zero3": {"checkpoint_every_steps": 2, "zero_stage": 3},
    }
    jobs = [data.job(name, **chosen) for name, chosen in settings.items()]
    jobs += [job_of_a_model_with_an_adapter(data), job_of_the_merged_model(data)]
    run_ranks(2, data.root / "two", train_all, jobs, [data.job(name).export_to for name in ("resumed", "resumed-zero3")])
    run_ranks(1, data.root / "one", train_all, [data.job("one-rank", num_workers=1)], [])
    return data


@pytest.fixture(scope="module")
def more_trained(trained: Data) -> Data:
    """A long one, and the other stages in bf16, which CPUs without AVX-512 emulate."""
    jobs = [trained.job("long", **LONG)]
    jobs += [trained.job(f"bf16-zero{stage}", zero_stage=stage, precision="bf16") for stage in (0, 1, 3)]
    run_ranks(2, trained.root / "two-more", train_all, jobs, [])
    return trained


def job_of_a_model_with_an_adapter(data: Data) -> TrainJob:
    adapter = tiny_adapter(data.root / "adapter", Path(data.model))
    return replace(data.job("adapter-zero3", zero_stage=3, num_epochs=1), adapter=str(adapter))


def job_of_the_merged_model(data: Data) -> TrainJob:
    merged = AutoModelForCausalLM.from_pretrained(data.model, dtype=torch.float32)
    merge(read_adapter(str(data.root / "adapter")), merged)
    merged.save_pretrained(data.root / "merged")
    AutoTokenizer.from_pretrained(data.model).save_pretrained(data.root / "merged")
    return replace(data.job("merged-zero3", zero_stage=3, num_epochs=1), model=str(data.root / "merged"))


def test_training_with_an_adapter_is_training_of_the_merged_model(trained: Data) -> None:
    assert trained.losses("adapter-zero3") == trained.losses("merged-zero3") != trained.losses("zero3")[:3]
    weights, expected = trained.weights("adapter-zero3"), trained.weights("merged-zero3")
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())


def assert_same_training(trained: Data, name: str, reference: str) -> None:
    """Within what the order of floating-point sums may change."""
    num_steps = len(trained.losses(reference))
    assert [line["train/step"] for line in read_metrics(trained.root / name / "metrics.jsonl")] == list(range(1, num_steps + 1))
    assert trained.losses(name) == pytest.approx(trained.losses(reference), rel=1e-5)
    torch.testing.assert_close(trained.weights(name), trained.weights(reference), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_zero_stage_trains_the_same_numbers_as_none(trained: Data, stage: int) -> None:
    assert_same_training(trained, f"zero{stage}", "zero0")


def test_two_ranks_train_the_same_numbers_as_one(trained: Data) -> None:
    assert_same_training(trained, "zero2", "one-rank")


@pytest.mark.parametrize("name", ["small-chunks", "larger-micro-batches", "recomputed"])
def test_what_saves_memory_or_time_does_not_change_the_numbers(trained: Data, name: str) -> None:
    assert_same_training(trained, name, "zero2")


def test_recomputed_activations_do_not_change_the_numbers_of_sharded_parameters(trained: Data) -> None:
    assert_same_training(trained, "recomputed-zero3", "zero3")


@pytest.mark.parametrize(("resumed", "uninterrupted"), [("resumed", "zero2"), ("resumed-zero3", "zero3")])
def test_a_training_resumed_from_before_a_torn_checkpoint_is_bitwise_the_uninterrupted_one(
    trained: Data, resumed: str, uninterrupted: str
) -> None:
    assert trained.losses(resumed) == trained.losses(uninterrupted)
    weights, reference = trained.weights(resumed), trained.weights(uninterrupted)
    assert all(torch.equal(weights[name], reference[name]) for name in reference)


def test_bf16_learns_as_fp32_does(trained: Data) -> None:
    assert_learns_as_fp32(trained, stage=2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_bf16_learns_as_fp32_does_in_other_stages(more_trained: Data, stage: int) -> None:
    assert_learns_as_fp32(more_trained, stage)


def assert_learns_as_fp32(trained: Data, stage: int) -> None:
    losses = trained.losses(f"bf16-zero{stage}")
    assert losses[-1] < losses[0] - 0.5
    assert losses == pytest.approx(trained.losses("zero2"), rel=2e-3)
    assert {weight.dtype for weight in trained.weights(f"bf16-zero{stage}").values()} == {torch.bfloat16}


def greedy_answers(model: Path, prompts: list[list[int]]) -> list[str]:
    """As transformers computes them."""
    causal_lm, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    answers = [causal_lm.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False)[0, len(ids) :] for ids in prompts]
    return [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]


def test_the_export_of_sharded_tied_weights_answers_alike_in_transformers_and_vllm(trained: Data) -> None:
    model = trained.root / "zero3" / "model"
    assert "lm_head.weight" not in trained.weights("zero3")
    chat = Chat.load(str(model))
    asked = [chat.prompt(Prompts().solve_messages(row["question"], None)).input_ids for row in tiny_records(12)]
    answers = greedy_answers(model, asked)
    assert answers == bare_vllm(str(model), asked, max_tokens=16)
    assert answers != greedy_answers(Path(trained.model), asked), "the training should have changed what the model says"


def whole_checkpoints(job: TrainJob) -> list[str]:
    return sorted(path.parent.name for path in Path(job.checkpoints).glob("step-*/manifest.json"))


class WorkerKiller(threading.Thread):
    """Kills one training worker of this process's own Ray with SIGKILL once the training has taken some steps."""

    def __init__(self, metrics: Path, after_step: int) -> None:
        super().__init__(daemon=True)
        self._metrics, self._after_step = metrics, after_step
        self.steps_done = 0

    def run(self) -> None:
        while len(read_metrics(self._metrics)) < self._after_step:
            time.sleep(0.01)
        workers = [process for process in psutil.Process().children(recursive=True) if "TrainWorker" in " ".join(process.cmdline())]
        os.kill(workers[-1].pid, signal.SIGKILL)
        self.steps_done = len(read_metrics(self._metrics))


@pytest.mark.slow  # tests/chaos kills a rank by default
def test_a_worker_killed_in_the_middle_of_a_training_on_ray_changes_no_number(more_trained: Data, ray_local: Any) -> None:
    trained = more_trained
    job = trained.job("killed", checkpoint_every_steps=4, **LONG)
    killer = WorkerKiller(Path(job.metrics), after_step=9)
    killer.start()
    report = train(job)
    assert 9 <= killer.steps_done < 30
    assert (report["steps"], report["world_size"], report["zero_stage"]) == (30, 2, 3)
    assert (report["first_loss"], report["last_loss"]) == (trained.losses("long")[0], pytest.approx(trained.losses("long")[-1], rel=1e-6))
    assert_same_training(trained, "killed", "long")
    assert whole_checkpoints(job) == ["step-00000028", "step-00000030"]

    # Another start, with the newest checkpoint damaged: the last steps are taken again, by a driver that knows nothing of the first.
    state = max((Path(job.checkpoints) / "step-00000030").glob("*.safetensors"))
    state.write_bytes(bytes(state.stat().st_size))
    assert train(job)["steps"] == 30
    assert_same_training(trained, "killed", "long")
    assert whole_checkpoints(job) == ["step-00000028", "step-00000030"]


@pytest.fixture(scope="module")
def poisoned(data: Data) -> tuple[TrainJob, list[str]]:
    """A training whose second step has a loss that is no number, and the records that it is of."""
    poisoned_token = VOCABULARY_SIZE - 1
    examples = {
        name: Example(input_ids=[min(token, poisoned_token - 1) for token in example.input_ids], prompt_length=example.prompt_length)
        for name, example in random_examples(60).items()
    }
    training = make_training(context_length=100, checkpoint_every_steps=1)
    packed = packed_examples(data.root / "sound", training, examples)
    second_ranks_rows = PackedPlan.make(training, packed, world_size=2).micro_batches(1, rank=1)
    names = PackedRows(packed).record_ids(second_ranks_rows[1])
    examples[names[0]].input_ids[0] = poisoned_token
    packed_examples(data.root / "poisoned", training, examples)  # the same rows, as the lengths are the same

    model = Qwen3ForCausalLM.from_pretrained(tiny_model(data.root / "untied", dtype=torch.float32, tie_word_embeddings=False))
    with torch.no_grad():
        model.model.embed_tokens.weight[poisoned_token] = torch.nan
    model.save_pretrained(data.root / "untied")
    job = data.job("stopped", **training.model_dump())
    return replace(job, model=str(data.root / "untied"), packed=str(data.root / "poisoned" / "packed")), names


def test_a_loss_that_is_no_number_stops_with_step_and_records_and_saves_nothing_of_it(
    data: Data, poisoned: tuple[TrainJob, list[str]]
) -> None:
    job, names = poisoned
    begin(job)
    run_ranks(2, data.root / "to-be-stopped", train_all, [job], [])
    assert_stopped_at_the_second_step(job, names, explain(job))
    assert len(data.losses("stopped")) == 1


@pytest.mark.slow  # by the ranks alone above
def test_a_loss_that_is_no_number_ends_a_training_on_ray(poisoned: tuple[TrainJob, list[str]], tmp_path: Path, ray_local: Any) -> None:
    job, names = poisoned
    job = replace(job, checkpoints=str(tmp_path / "checkpoints"), metrics=str(tmp_path / "metrics.jsonl"))
    with pytest.raises(TrainingStoppedError) as stopped:
        train(job)
    assert_stopped_at_the_second_step(job, names, str(stopped.value))


def assert_stopped_at_the_second_step(job: TrainJob, names: list[str], message: str) -> None:
    assert message.startswith("training stopped at step 2: loss nan, gradient norm")
    assert f"in records {', '.join(names)};" in message
    assert f"the last good checkpoint is {job.checkpoints}/step-00000001" in message
    assert whole_checkpoints(job) == ["step-00000001"]
    assert not Path(job.export_to).exists()
