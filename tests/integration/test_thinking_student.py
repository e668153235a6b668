"""A student whose template opens a thought: trained on answers alone, exported, and asked, its answers are read and grade right."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from cgd_ray.config import RoleConfig, TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.engines.engine import Generation
from cgd_ray.engines.thinking import answered
from cgd_ray.grading.grader import Grader
from cgd_ray.training.examples.packing import pack
from cgd_ray.training.examples.writing import make_examples
from cgd_ray.training.job import TrainJob
from tests.builders import CHATML, tiny_model, tiny_records, write_selected
from tests.distributed import run_ranks
from tests.trainings import make_training, train_all

OPENING = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
PROMPTS = Prompts(solve="{question} Box it: \\boxed{}.")
NUM_PROBLEMS = 2


def make_settings() -> TrainingConfig:
    return make_training(
        arm="refined_only", num_workers=1, global_batch_size=1, num_epochs=80, learning_rate=5e-3, weight_decay=0.0, context_length=256
    )


def generate(model: str, chat: Chat, question: str) -> Generation:
    """As the engine answers, by transformers: greedy, up to the end token."""
    prompt = chat.prompt(PROMPTS.solve_messages(question, None)).input_ids
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    settings = {"max_new_tokens": 64, "do_sample": False, "eos_token_id": chat.end_token_id, "pad_token_id": 0}
    ids = network.generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist()
    is_ended = ids[-1] == chat.end_token_id
    text = chat.decode_answer(prompt, ids[:-1] if is_ended else ids)
    reason = "stop" if is_ended else "length"
    return Generation(text=text, num_tokens=len(ids), prompt_tokens=len(prompt), cached_tokens=0, finish_reason=reason)


def test_the_answers_of_a_trained_student_that_thinks_are_read_right(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "initial", dtype=torch.float32)
    (model / "chat_template.jinja").write_text(OPENING)
    role, rows = RoleConfig(model=str(model)), tiny_records(NUM_PROBLEMS)
    selected = write_selected(tmp_path / "selected", rows)
    make_examples(make_settings(), Chat.of(role), PROMPTS, selected, tmp_path / "examples")
    pack(256, tmp_path / "examples", tmp_path / "packed")
    job = TrainJob(
        training=make_settings().model_dump(mode="json"),
        model=str(model),
        packed=str(tmp_path / "packed"),
        checkpoints=str(tmp_path / "checkpoints"),
        metrics=str(tmp_path / "metrics.jsonl"),
        export_to=str(tmp_path / "model"),
    )
    run_ranks(1, tmp_path / "meeting", train_all, [job])
    trained = role.model_copy(update={"model": job.export_to})
    chat = Chat.of(trained)
    found = []
    for row in rows:
        messages = PROMPTS.solve_messages(row["question"], None)
        assert chat.opens_thought(messages)
        found.append(answered(generate(trained.model, chat, row["question"]), chat, trained, messages))
    assert [(thinking, reason) for _, thinking, reason in found] == [("", "stop")] * NUM_PROBLEMS
    with Grader(timeout_s=5.0, num_workers=1) as grader:
        grades = grader.grade([(answer, row["reference_answer"]) for (answer, _, _), row in zip(found, rows, strict=True)])
    assert grades == [True] * NUM_PROBLEMS
