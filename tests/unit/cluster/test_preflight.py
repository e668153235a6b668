"""What a run needs of models, contexts and cluster is checked to the token and to the processor, before anything starts."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cgd_ray.cluster.preflight import OPTIONAL, check_libraries, check_models
from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from tests.builders import tiny_adapter, tiny_model
from tests.unit.cluster.configs import MODELS, make_config

PROBLEMS = pa.table({"question": ["What is 1 + 1, if anything at all?", "What is 1 + 1?"]})
PROMPTS, SHORTEST = Prompts(), "What is 1 + 1?"
NEEDED = {
    "student": PROMPTS.solve_messages(SHORTEST, None),
    "teacher": PROMPTS.refine_messages(SHORTEST, "", ""),
}


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_context_holds_the_shortest_problems_prompt_and_one_token_or_is_refused(role: str) -> None:
    needed = len(Chat.load(str(MODELS / role)).prompt(NEEDED[role]).input_ids) + 1
    check_models(make_config(**{role: {"context_length": needed}}), PROBLEMS)
    with pytest.raises(ValueError, match=rf"^{role}.context_length {needed - 1} is too small: .* make {needed}; raise it$"):
        check_models(make_config(**{role: {"context_length": needed - 1}}), PROBLEMS)


def test_a_context_beyond_what_the_model_was_made_for_is_refused() -> None:
    check_models(make_config(teacher={"context_length": 2048}), PROBLEMS)
    with pytest.raises(ValueError, match=r"^teacher.context_length 2049 exceeds the 2048 tokens that .*teacher was made for; lower it$"):
        check_models(make_config(teacher={"context_length": 2049}), PROBLEMS)


LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 16384\n"


def copied(role: str, tmp_path: Path, **config: Any) -> str:
    """The example's model with other fields in its config."""
    model = Path(shutil.copytree(MODELS / role, tmp_path / role))
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | config))
    return str(model)


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize("named", [10**30, 64], ids=["huge", "small"])
def test_the_tokenizers_own_limit_is_none(role: str, named: int, tmp_path: Path) -> None:
    model = copied(role, tmp_path)
    file = Path(model) / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": named}))
    check_models(make_config(**{role: {"model": model, "context_length": 2048}}), PROBLEMS)
    with pytest.raises(ValueError, match=rf"^{role}.context_length 4096 exceeds the 2048 tokens that .* was made for; lower it$"):
        check_models(make_config(**{role: {"model": model, "context_length": 4096}}), PROBLEMS)


@pytest.mark.parametrize("method", ["gptq", "fp8", "bitsandbytes", "awq"])
def test_quantised_weights_are_refused_in_the_student_alone(method: str, tmp_path: Path) -> None:
    quantised = {"quantization_config": {"quant_method": method, "bits": 4}}
    with pytest.raises(
        ValueError, match=rf"^student.model .* \(qwen3\) is quantised \(quant_method {method}\), .*; give the unquantised model$"
    ):
        check_models(make_config(student={"model": copied("student", tmp_path, **quantised)}), PROBLEMS)
    check_models(make_config(teacher={"model": copied("teacher", tmp_path, **quantised)}), PROBLEMS)


def test_code_that_comes_with_a_model_is_not_needed_where_transformers_has_the_architecture(tmp_path: Path) -> None:
    check_models(make_config(student={"model": copied("student", tmp_path, auto_map={"AutoModel": "modeling.Mine"})}), PROBLEMS)
    unknown = copied("teacher", tmp_path, auto_map={"AutoModel": "modeling.Mine"}, model_type="mine")
    with pytest.raises(ValueError, match=r"^teacher.model .* asks to run its own code \(auto_map in config.json\); convert it"):
        check_models(make_config(teacher={"model": unknown}), PROBLEMS)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", None, " {model} has no config.json"),
        ("config.json", '{"half": ', r": {model}/config.json holds no valid JSON \(.*\); replace it"),
        ("config.json", "[1]", ": {model}/config.json holds list, not an object with named settings; replace it"),
        ("config.json", "[" * 100_000, ": {model}/config.json holds JSON that is nested too deep to be read"),
        ("config.json", '{"auto_map": {}}', " {model} asks to run its own code"),
        ("generation_config.json", "[]", ": {model}/generation_config.json holds list, not an object"),
        ("tokenizer_config.json", "\0", ": {model}/tokenizer_config.json holds no valid JSON"),
        ("model.safetensors", None, " {model} has no .safetensors weights; convert them"),
        (
            "model.safetensors",
            LFS_POINTER,
            ": {model}/model.safetensors is a Git LFS pointer and not the weights; run `git lfs pull` there",
        ),
        ("model.safetensors", "", r": {model}/model.safetensors is no safetensors file \(.*\); replace it"),
    ],
)
def test_a_directory_that_holds_no_safe_model_is_refused(file: str, content: str | None, expected: str, tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODELS / "teacher", tmp_path / "model"))
    (model / "pytorch_model.bin").touch()
    (model / file).unlink()
    if content is not None:
        (model / file).write_text(content)
    with pytest.raises(ValueError, match="^teacher.model" + expected.format(model=model)):
        check_models(make_config(teacher={"model": str(model)}), PROBLEMS)


@pytest.mark.parametrize("model", ["/nowhere/model", "./nowhere", "../nowhere", "~/nowhere", "runs/nowhere/model"])
def test_a_path_is_not_taken_for_a_hub_name(model: str) -> None:
    with pytest.raises(ValueError, match=r"^student.model .*nowhere.* does not exist; give a model directory or a hub name$"):
        check_models(make_config(student={"model": model}), PROBLEMS)


@pytest.mark.parametrize("placement", [{"gpus_per_replica": 0.5}, {"gpus_per_replica": 8, "max_replicas": 2}])
def test_an_engine_on_several_nodes_needs_gpus_and_a_fixed_pool(placement: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"nodes_per_replica is 2 with gpus_per_replica [\d.]+ and replicas from 1 to \d; an engine on"):
        make_config(teacher={"placement": {"nodes_per_replica": 2, **placement}})


def test_an_engine_has_whole_gpus_or_a_share_of_one() -> None:
    with pytest.raises(ValueError, match=r"gpus_per_replica is 1\.5; an engine has whole GPUs, or a share of a single one"):
        make_config(teacher={"placement": {"gpus_per_replica": 1.5}})


def test_an_adapter_that_is_not_there_or_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^student.adapter /nowhere holds no adapter_config.json; give a directory that peft has saved"):
        check_models(make_config(student={"adapter": "/nowhere"}), PROBLEMS)
    adapter = tiny_adapter(tmp_path / "adapter", tiny_model(tmp_path / "model"))
    with pytest.raises(ValueError, match=rf"^student.adapter {adapter} does not fit .*; give the adapter's own model$"):
        check_models(make_config(student={"adapter": str(adapter)}), PROBLEMS)


def test_a_template_that_cannot_show_a_correction_is_refused_before_generation(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODELS / "student", tmp_path / "model"))
    refusing = "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
    (model / "chat_template.jinja").write_text(refusing + (model / "chat_template.jinja").read_text())
    with pytest.raises(ValueError, match=r"refuses the roles .*'user', 'assistant', 'user'.*one turn only"):
        check_models(make_config(student={"model": str(model)}), PROBLEMS)


@pytest.mark.parametrize(("module", "extra", "setting"), [entry[:3] for entry in OPTIONAL])
def test_a_library_that_is_missing_is_named_with_its_extra(module: str, extra: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = TrainingConfig.model_validate({"lora": {}} if module == "peft" else {"trackers": [module]})
    check_libraries(asking)
    monkeypatch.setitem(sys.modules, module, None)  # Python's own way to say that there is no such module
    with pytest.raises(ValueError, match=rf"{setting}, but the library {module} is not installed; pip install 'cgd-ray\[{extra}\]'"):
        check_libraries(asking)


def test_the_defaults_need_no_extra() -> None:
    check_libraries(TrainingConfig())
