"""Base and thinking models: a template from a file, one BOS, an end token that is trained, exported and stopped at."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import processors
from transformers import AutoTokenizer, Qwen3ForCausalLM

from cgd_ray.cli import main
from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, Prompts
from cgd_ray.generation.fingerprints import attempt_fingerprint
from cgd_ray.training.checkpoints.export import export
from tests.builders import CHATML, PADDING, TURN_END, tiny_config, tiny_model, tiny_tokenizer

THINKING = (  # as Qwen3's: earlier thoughts are removed, the last turn is opened with a thought or an empty one
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}"
    "{% if loop.last %}{% set content = '<think>\\n\\n</think>\\n\\n' + content %}{% endif %}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
TALK = [Message(role="user", content="Hi"), Message(role="assistant", content="Ho"), Message(role="user", content="Again")]


def base_model(path: Path) -> Path:
    """A model as it is before instruction tuning: no chat template, and generation ends with the document."""
    tiny_model(path)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template, tokenizer.eos_token = None, PADDING
    tokenizer.save_pretrained(str(path))
    (path / "chat_template.jinja").unlink()
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "pad_token_id": 0}))
    return path


def template_file(path: Path, text: str = CHATML) -> str:
    path.write_text(text)
    return str(path)


def test_a_base_model_is_refused_with_the_remedy_and_works_with_a_template_from_a_file(tmp_path: Path) -> None:
    model = base_model(tmp_path / "base")
    with pytest.raises(ValueError, match=r"has no chat template; add chat_template.jinja .* or set chat_template to such a file"):
        Chat.load(str(model))
    chat = Chat.load(str(model), {}, template_file(tmp_path / "chatml.jinja"))
    assert chat.prompt(TALK) == Chat(tiny_tokenizer()).prompt(TALK)


def test_the_trained_end_is_the_templates_and_not_the_documents(tmp_path: Path) -> None:
    chat = Chat.load(str(base_model(tmp_path / "base")), {}, template_file(tmp_path / "chatml.jinja"))
    example = chat.example(TALK, "Hey")
    assert example.input_ids[-1] == chat.end_token_id == chat.tokenizer.convert_tokens_to_ids(TURN_END)
    assert chat.tokenizer.decode(example.input_ids[example.prompt_length :]) == f"Hey{TURN_END}"


def test_a_template_whose_turns_end_with_plain_text_trains_the_end_of_the_document(tmp_path: Path) -> None:
    plain = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
    chat = Chat.load(str(base_model(tmp_path / "base")), {}, template_file(tmp_path / "plain.jinja", plain))
    assert chat.end_token_id == chat.example(TALK, "Hey").input_ids[-1] == chat.tokenizer.convert_tokens_to_ids(PADDING)


@pytest.mark.parametrize("template", [CHATML, "{{ bos_token }}" + CHATML])
def test_a_bos_comes_from_the_template_alone(tmp_path: Path, template: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token, tokenizer.chat_template = PADDING, template
    bos = tokenizer.convert_tokens_to_ids(PADDING)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(f"{PADDING} $A", special_tokens=[(PADDING, bos)])
    assert tokenizer("x")["input_ids"][0] == bos
    chat = Chat(tokenizer)
    assert chat.example(TALK, "Hey").input_ids.count(bos) == chat.prompt(TALK).input_ids.count(bos) == template.count("bos_token")


@pytest.mark.parametrize("arguments", [None, {"enable_thinking": False}])
def test_a_thinking_models_target_follows_what_it_sees_at_inference(arguments: dict[str, bool] | None) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = THINKING
    chat = Chat(tokenizer, arguments)
    example = chat.example(TALK, "So: 7.")
    empty = "<think>\n\n</think>\n\n"
    written = "" if arguments else empty  # what the template writes before answers and has not written yet, the model has to
    assert example.input_ids[: example.prompt_length] == chat.prompt(TALK).input_ids
    assert chat.tokenizer.decode(example.input_ids).endswith(f"<|im_start|>assistant\n{empty}So: 7.{TURN_END}")
    assert chat.tokenizer.decode(example.input_ids[example.prompt_length :]) == f"{written}So: 7.{TURN_END}"


def test_a_template_beside_another_one_is_refused_and_beside_itself_is_not(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    same, other = template_file(tmp_path / "same.jinja"), template_file(tmp_path / "other.jinja", THINKING)
    assert Chat.load(str(model), {}, same).prompt(TALK) == Chat.load(str(model)).prompt(TALK)
    with pytest.raises(
        ValueError, match=r"has a chat template of its own, other than chat_template .*other.jinja; set chat_template to null"
    ):
        Chat.load(str(model), {}, other)
    with pytest.raises(ValueError, match=r"nowhere.jinja does not exist; give a .jinja file or null"):
        Chat.load(str(model), {}, str(tmp_path / "nowhere.jinja"))


def test_the_export_carries_the_template_and_stops_where_it_was_taught_to(tmp_path: Path) -> None:
    model = base_model(tmp_path / "base")
    file = template_file(tmp_path / "chatml.jinja")
    torch.manual_seed(1)
    weights = dict(Qwen3ForCausalLM(tiny_config()).named_parameters())
    export(weights, str(model), "fp32", tmp_path / "model", "mine", file)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template == CHATML
    chat = Chat.load(str(tmp_path / "model"), {}, file)  # the evaluation still names the file
    assert chat.prompt(TALK) == Chat.load(str(model), {}, file).prompt(TALK)
    settings = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert settings == {"eos_token_id": [0, chat.end_token_id], "pad_token_id": 0}


def test_answers_of_another_template_are_not_taken_for_these(tmp_path: Path) -> None:
    model = str(base_model(tmp_path / "base"))
    file = template_file(tmp_path / "template.jinja")
    before = attempt_fingerprint(RoleConfig(model=model, chat_template=file), Prompts())
    moved = attempt_fingerprint(RoleConfig(model=model, chat_template=template_file(tmp_path / "moved.jinja")), Prompts())
    template_file(tmp_path / "template.jinja", THINKING)
    assert before == moved != attempt_fingerprint(RoleConfig(model=model, chat_template=file), Prompts())


def test_the_path_of_a_template_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cgd_ray.config import load_config

    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("{run_dir: r, problems: {path: p}, student: {model: m, chat_template: t.jinja}, teacher: {model: m}}")
    config: Config = load_config("config.yaml")
    assert (config.student.chat_template, config.teacher.chat_template) == (str(tmp_path / "t.jinja"), None)
    assert main(["config", "config.yaml"]) == 0
