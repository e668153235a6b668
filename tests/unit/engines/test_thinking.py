"""Thoughts are kept apart from answers, by marks that the settings give or that the model's template or vocabulary has."""

import pytest
from tokenizers import AddedToken

from cgd_ray.config import RoleConfig, ThinkingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message
from cgd_ray.data.thoughts import FAMILIES
from cgd_ray.engines.engine import Generation
from cgd_ray.engines.thinking import answered, separate_thinking
from tests.builders import CHATML, tiny_tokenizer

ASKED = [Message(role="user", content="What is 2 + 2?")]
OPENING = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
HARMONY = (  # as gpt-oss's, with an answer in its final channel
    "{% for message in messages %}<|im_start|>{{ message['role'] }}"
    "{% if message['role'] == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


def said(text: str, thinking: str | None = None) -> Generation:
    return Generation(text=text, thinking=thinking, num_tokens=1, prompt_tokens=1, cached_tokens=0, finish_reason="stop")


def chat_with(template: str, thinking: ThinkingConfig | None = None, *added: str) -> Chat:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in added])
    tokenizer.chat_template = template
    return Chat(tokenizer, thinking=thinking)


@pytest.mark.parametrize(
    ("text", "is_open", "answer", "thinking", "finish_reason"),
    [
        ("<think>hm</think> 4", False, "4", "hm", "stop"),
        ("hm</think> 4", True, "4", "hm", "stop"),
        ("hm</think> 4", False, "4", "hm", "stop"),  # an endpoint's template may have written the start
        ("<think>hm, and then", False, "", "hm, and then", "length"),
        ("hm, and then", True, "", "hm, and then", "length"),
        ("4", False, "4", None, "stop"),
        ("<think>a</think>b</think> 4", False, "4", "a</think>b", "stop"),
        ("\n</think>\n\n4", True, "4", "", "stop"),
    ],
)
def test_thinking_is_kept_apart_and_a_thought_without_end_is_a_cut_answer(
    text: str, is_open: bool, answer: str, thinking: str | None, finish_reason: str
) -> None:
    assert separate_thinking(said(text), ThinkingConfig(), is_open) == (answer, thinking, finish_reason)
    assert separate_thinking(said(text), None, is_open) == (text, None, "stop")


@pytest.mark.parametrize("marks", [None, ThinkingConfig()])
def test_what_an_endpoint_has_kept_apart_as_thinking_stays_apart(marks: ThinkingConfig | None) -> None:
    assert separate_thinking(said("4", "hm"), marks, is_open=False) == ("4", "hm", "stop")


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        ("<think>hm</think>4", None, "4"),
        ("hm</think>4", None, "4"),
        ("[THINK]hm[/THINK]4", None, "4"),
        ("<think>hm", None, ""),
        ("Write <think> and </think>.", None, "Write <think> and </think>."),
        ("<think>hm</think>4", ThinkingConfig(), "4"),
        ("<think>hm</think>4", ThinkingConfig(separate=False), "<think>hm</think>4"),
    ],
)
def test_an_endpoints_thoughts_are_found_by_the_settings_or_by_what_its_answer_shows(
    text: str, thinking: ThinkingConfig | None, expected: str
) -> None:
    assert answered(said(text), None, RoleConfig(model="m", thinking=thinking), ASKED)[0] == expected


@pytest.mark.parametrize("marks", FAMILIES.values(), ids=lambda marks: marks.end)
def test_marks_are_settled_from_the_template_or_from_the_vocabulary(marks: ThinkingConfig) -> None:
    in_template = chat_with(CHATML + f"{{{{ '' if true else '{marks.end}' }}}}")
    in_vocabulary = chat_with(CHATML, None, marks.start, marks.end)
    for chat in (in_template, in_vocabulary):
        assert chat.thinking == marks
        text = f"{marks.start}hm{marks.end}4"
        assert answered(said(text), chat, RoleConfig(model="m"), ASKED) == ("4", "hm", "stop")


def test_a_model_without_marks_does_not_think() -> None:
    chat = chat_with(CHATML)
    assert chat.thinking is None
    assert answered(said("<think>hm</think>4"), chat, RoleConfig(model="m"), ASKED) == ("<think>hm</think>4", None, "stop")


def test_the_settings_have_the_last_word_on_marks() -> None:
    assert chat_with(OPENING, ThinkingConfig(start="<hm>", end="</hm>")).thinking == ThinkingConfig(start="<hm>", end="</hm>")
    assert chat_with(OPENING, ThinkingConfig(separate=False)).thinking is None


def trained_text(chat: Chat, target: str) -> str:
    """What carries loss, without the end token, as an engine would report it."""
    example = chat.example(ASKED, target)
    assert example.input_ids[: example.prompt_length] == chat.prompt(ASKED).input_ids
    *ids, end = example.input_ids[example.prompt_length :]
    assert end == chat.end_token_id
    return chat.decode_answer(example.input_ids[: example.prompt_length], ids, chat.control_ids)


@pytest.mark.parametrize("added", [(), ("<think>", "</think>")], ids=["plain", "added tokens"])
@pytest.mark.parametrize("shown", ["", "<think>\n\n</think>\n\n"], ids=["R1, QwQ", "Qwen3-Thinking"])
def test_a_student_whose_template_opens_a_thought_learns_to_close_it_and_its_answer_is_read(added: tuple[str, ...], shown: str) -> None:
    """Templates of later models show an empty thought before their last answer, those of earlier ones only the answer."""
    template = OPENING
    if shown:
        answer = "{% if message['role'] == 'assistant' %}" + shown + "{% endif %}{{ message['content'] }}"
        template = OPENING.replace("{{ message['content'] }}", answer)
    chat = chat_with(template, None, *added)
    assert chat.opens_thought(ASKED)
    assert chat.tokenizer.decode(chat.prompt(ASKED).input_ids).endswith("<|im_start|>assistant\n<think>\n")
    text = trained_text(chat, "It is \\boxed{4}.")
    assert text == "\n</think>\n\nIt is \\boxed{4}."
    assert answered(said(text), chat, RoleConfig(model="m"), ASKED) == ("It is \\boxed{4}.", "", "stop")


def test_thoughts_that_stay_in_the_text_are_trained_as_they_are() -> None:
    chat = chat_with(OPENING, ThinkingConfig(separate=False))
    assert trained_text(chat, "2 and 2</think>4") == "2 and 2</think>4"


def test_the_channel_of_an_answer_is_the_models_own_to_write() -> None:
    chat = chat_with(HARMONY, ThinkingConfig(start="<|channel|>analysis<|message|>", end="<|channel|>final<|message|>"))
    text = trained_text(chat, "4")
    assert text == "<|channel|>final<|message|>4"
    thoughtful = "<|channel|>analysis<|message|>hm" + text
    assert answered(said(text), chat, RoleConfig(model="m"), ASKED) == ("4", "", "stop")
    assert answered(said(thoughtful), chat, RoleConfig(model="m"), ASKED) == ("4", "hm", "stop")


def test_other_words_before_an_answer_are_not_trained() -> None:
    """A template without an invitation would have the model write its own header."""
    chat = chat_with(CHATML.partition("{% if add_generation_prompt %}")[0])
    assert trained_text(chat, "4") == "4"
