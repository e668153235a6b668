"""A transcript shows the tokens that a model is given, tells the template's control tokens from data, and steers no terminal."""

from typing import Any

import pytest

from cgd_ray.config import Config
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import SELECTED_SCHEMA
from cgd_ray.reporting.transcript import CLOSING, OPENING, Transcript
from tests.builders import tiny_records, tiny_tokenizer


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    model = tmp_path_factory.mktemp("model")
    tiny_tokenizer().save_pretrained(str(model))
    role = {"model": str(model)}
    return Config.model_validate({"run_dir": "r", "problems": {"path": "p"}, "student": role, "teacher": role})


def row(**columns: Any) -> dict[str, Any]:
    counts = {f"{turn}_{kind}": 7 for turn in ("attempt", "critique", "refinement") for kind in ("prompt_tokens", "tokens")}
    return {**dict.fromkeys(SELECTED_SCHEMA.names), **tiny_records(1)[0], "direct": None, **counts, **columns}


def without_marks(text: str) -> str:
    return text.replace(OPENING, "").replace(CLOSING, "")


def test_a_prompt_is_what_the_chat_template_makes_of_the_conversation(config: Config) -> None:
    made, prompts, chat = row(), Prompts(), Chat.of(config.student)
    shown = Transcript(config).prompt(made, "attempt")
    ids = chat.prompt(prompts.solve_messages(made["question"], None)).input_ids
    assert without_marks(shown) == chat.tokenizer.decode(ids)
    assert shown.startswith("⟪<|im_start|>⟫user\n")
    assert shown.endswith("⟪<|im_start|>⟫assistant\n")


def test_critique_and_refinement_are_one_conversation_that_is_shown_once(config: Config) -> None:
    made, prompts, chat = row(), Prompts(), Chat.of(config.teacher)
    transcript = Transcript(config)
    both = transcript.prompt(made, "critique") + transcript.prompt(made, "refinement")
    messages = prompts.refine_messages(made["question"], made["attempt"], made["critique"])
    assert without_marks(both) == chat.tokenizer.decode(chat.prompt(messages).input_ids)


def test_a_control_tokens_name_in_data_has_no_mark(config: Config) -> None:
    shown = Transcript(config).prompt(row(question="What is <|im_end|>?"), "attempt")
    assert "What is <|im_end|>?" in shown
    assert shown.count(OPENING) == 3


def test_a_row_is_shown_with_its_turns_and_how_they_were_judged(config: Config) -> None:
    made = row(leaks=["refinement_mentions_review"], drop_reason="not_verified", refinement_thinking="hm")
    shown = Transcript(config).row(made, "1 of 5")
    assert shown.startswith(f"── 1 of 5: problem {made['problem_id']}, record {made['record_id']} ──")
    assert f"answered; 7 tokens in, 7 out; wrong, the reference answer is {made['reference_answer']}" in shown
    assert "answered; 7 tokens in, 7 out; verdict: wrong" in shown
    assert "refinement: what the teacher thought\n    hm" in shown
    assert shown.endswith("\nnot trained on: not_verified\n\nleaks: refinement_mentions_review\n\n")
    assert shown.index("attempt: what") < shown.index("critique: what") < shown.index("refinement: what")


def test_where_a_row_failed_its_last_prompt_is_shown_and_why(config: Config) -> None:
    made = row(critique=None, refinement=None, verdict=None, error="critique: no answer within request_timeout_s 5")
    shown = Transcript(config).row(made, "1 of 1")
    assert "critique: what the teacher is given" in shown
    assert "critique: what the teacher answered" not in shown
    assert "failed: critique: no answer within request_timeout_s 5" in shown


def test_what_a_model_writes_does_not_steer_the_terminal(config: Config) -> None:
    shown = Transcript(config).row(row(attempt="\x1b[2Jgone\r", question="\x07?"), "1 of 1")
    assert "\\x1b[2Jgone\\x0d" in shown
    assert not any(letter in shown for letter in "\x1b\r\x07")


def test_an_endpoints_prompts_are_messages(config: Config) -> None:
    endpoint = {"model": "m", "api": {"base_url": "http://127.0.0.1/v1"}}
    remote = Config.model_validate({**config.model_dump(), "teacher": endpoint})
    shown = Transcript(remote).prompt(row(), "refinement")
    assert shown.startswith("⟪assistant⟫ The sum is off by one.")
    assert "⟪user⟫ Now write the improved solution" in shown
