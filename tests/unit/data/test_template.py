"""What a chat template may do: read the messages as when it is served, ask for the day, fail; each fault is one line that names it."""

import re
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config import RoleConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message
from tests.builders import CHATML, TURN_END, tiny_model, tiny_tokenizer

DATED = (  # as Llama 3.2's
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "<|im_start|>system\nToday Date: {{ date_string }}<|im_end|>\n" + CHATML
)
STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% endfor %}" + CHATML
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
DROPS_SYSTEM = CHATML.replace("{% for message in messages %}", "{% for message in messages if message['role'] != 'system' %}")
QWEN3 = (  # earlier thoughts are taken out, the last answer is shown with one
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}"
    "{% if loop.last %}{% set content = '<think>\\n\\n</think>\\n\\n' + content %}{% endif %}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_with(template: str, **arguments: Any) -> Chat:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return Chat(tokenizer, arguments)


def talk(*contents: str) -> list[Message]:
    return [Message(role="assistant" if index % 2 else "user", content=content) for index, content in enumerate(contents)]


def shown(chat: Chat, *contents: str) -> str:
    text: str = chat.tokenizer.decode(chat.prompt(talk(*contents)).input_ids)
    return text


def test_a_template_that_asks_for_the_day_is_told_one_and_the_same_on_every_day() -> None:
    assert "Today Date: 26 Jul 2024" in shown(chat_with(DATED), "Hi")
    assert "Today Date: 1 Dec 2026" in shown(chat_with(DATED, date_string="1 Dec 2026"), "Hi")


def test_earlier_thoughts_are_taken_out_of_the_messages_as_when_the_model_is_served() -> None:
    assert "hm" not in shown(chat_with(QWEN3), "Why?", "<think>\nhm\n</think>\n\nSo.", "Again.")
    assert "\nSo.<|im_end|>" in shown(chat_with(QWEN3), "Why?", "<think>\nhm\n</think>\n\nSo.", "Again.")


def test_what_a_template_trims_is_trimmed_in_the_target_too() -> None:
    chat = chat_with(CHATML.replace("message['content'] }}", "message['content'] | trim }}"))
    example = chat.example(talk(" Why? "), "\n So. \n")
    assert chat.tokenizer.decode(example.input_ids) == f"<|im_start|>user\nWhy?{TURN_END}\n<|im_start|>assistant\nSo.{TURN_END}"


def test_a_name_of_a_control_token_in_data_does_not_keep_a_template_from_reading_it() -> None:
    chat = chat_with(QWEN3)
    text = shown(chat, "Why?", f"<think>hm {TURN_END}</think>\n\nSo {TURN_END}.", "Again.")
    assert "hm" not in text
    assert f"\nSo {TURN_END}.{TURN_END}" in text
    assert chat.count_control_tokens(chat.prompt(talk("a", f"b{TURN_END}", "c")).input_ids) == 7


@pytest.mark.parametrize(
    ("template", "arguments", "expected"),
    [
        ("{{ 'a' + 1 }}", {}, r"refuses the roles \['user'\]: TypeError: can only concatenate str .*; check chat_template_kwargs, or"),
        ("{{ messages[0]['content'].nothing() }}", {}, r"refuses the roles \['user'\]: 'str object' has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", {}, "ZeroDivisionError: division by zero"),
        ("{% if %}", {}, r"Expected an expression, got 'end of statement block'"),
        (
            CHATML,
            {"add_generation_prompt": False},
            "TypeError: .*multiple values for keyword argument 'add_generation_prompt'; check",
        ),
    ],
)
def test_a_template_that_fails_in_any_way_is_one_line(template: str, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=rf"^chat template of .*{expected}") as caught:
        chat_with(template, **arguments).prompt(talk("Hi"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (NO_SYSTEM, "refuses the roles .'system', 'user'.: System role not supported"),
        (STRICT, "refuses the roles .'system', 'user'.: roles must alternate user/assistant/user/assistant/..."),
        (DROPS_SYSTEM, "drops, moves or repeats a message"),
    ],
)
def test_a_template_without_a_system_message_is_refused_with_the_way_to_say_it(template: str, expected: str) -> None:
    chat, system = chat_with(template), Message(role="system", content="Be brief.")
    assert chat.prompt(talk("Hi")).input_ids
    with pytest.raises(ValueError, match=rf"{expected}.*set student_system or teacher_system to null in a file of your own"):
        chat.prompt([system, *talk("Hi")])


def test_a_refusal_names_the_models_directory_and_the_file_of_the_template(tmp_path: Path) -> None:
    model, file = tiny_model(tmp_path / "model"), tmp_path / "broken.jinja"
    (model / "chat_template.jinja").unlink()
    file.write_text("{{ 1 / 0 }}")
    with pytest.raises(ValueError, match=re.escape(f"chat template of {model} (chat_template {file}) refuses")):
        Chat.of(RoleConfig(model=str(model), chat_template=str(file))).prompt(talk("Hi"))
