"""A fingerprint changes with everything that can change a column, and with nothing else."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from cgd_ray.config import Config, ProblemsConfig, RoleConfig, ThinkingConfig, differing_settings
from cgd_ray.data.prompts import Prompts, load_prompts
from cgd_ray.generation.fingerprints import attempt_fingerprint, model_identity, settled, turn_fingerprints
from tests.builders import tiny_model, tiny_tokenizer

MODELS = Path("examples/tinymath/models")


def make_config(**changes: Any) -> Config:
    tree = {
        "run_dir": "run",
        "problems": ProblemsConfig(path="problems.jsonl"),
        "student": {"model": str(MODELS / "student"), **changes.pop("student", {})},
        "teacher": {"model": str(MODELS / "teacher"), **changes.pop("teacher", {})},
        **changes,
    }
    return Config.model_validate(tree)


API: dict[str, Any] = {"base_url": "https://api.example.org/v1"}
BASE = turn_fingerprints(make_config())


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"student": {"sampling": {"temperature": 0.7}}}, {"attempt", "critique", "refinement"}),
        ({"teacher": {"sampling": {"max_tokens": 9}}}, {"critique", "refinement"}),
        ({"teacher": {"chat_template_kwargs": {"enable_thinking": True}}}, {"critique", "refinement"}),
        ({"teacher": {"engine": {"dtype": "float32"}}}, {"critique", "refinement"}),
        ({"teacher": {"engine": {"quantization": "fp8"}}}, {"critique", "refinement"}),
        ({"teacher": {"engine": {"gpu_memory_utilization": 0.8, "enforce_eager": True, "max_num_seqs": 8}}}, set()),
        ({"teacher": {"placement": {"max_replicas": 4}}}, set()),
        ({"teacher": {"api": API}}, {"critique", "refinement"}),
        ({"generation": {"structured_verdict": True}}, {"critique", "refinement"}),
        ({"run_dir": "elsewhere"}, set()),
        ({"generation": {"batch_size": 3}}, set()),
    ],
)
def test_settings_change_the_columns_they_are_behind(change: dict[str, Any], changed: set[str]) -> None:
    fingerprints = turn_fingerprints(make_config(**change))
    assert {stage for stage in BASE if fingerprints[stage] != BASE[stage]} == changed


def test_a_set_of_prompts_is_known_by_its_words(tmp_path: Path) -> None:
    copied = tmp_path / "words.yaml"
    copied.write_text(yaml.safe_dump(asdict(load_prompts("small"))))
    assert turn_fingerprints(make_config(prompts="small")) == turn_fingerprints(make_config(prompts=str(copied)))
    assert turn_fingerprints(make_config(prompts="default")) == BASE
    assert {turn for turn, name in turn_fingerprints(make_config(prompts="small")).items() if name != BASE[turn]} == set(BASE)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ messages[0]['content'] }}", {}),
        ("{{ strftime_now('%d %b %Y') }}", {"day": "2024-07-26"}),
        ("{{ messages[0]['content'].split('</think>')[-1] }}", {"marks": ["<think>", "</think>"]}),
    ],
)
def test_what_was_settled_about_a_template_is_part_of_the_fingerprints(template: str, expected: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    file = model / "chat_template.jinja"
    file.write_text(template)
    role = RoleConfig(model=str(model))
    assert settled(role) == expected
    named = role.model_copy(update={"thinking": ThinkingConfig()})
    assert settled(named) == {name: value for name, value in expected.items() if name != "marks"}  # the setting itself is there then
    file.unlink()
    assert settled(role, template) == expected


def test_marks_in_the_vocabulary_alone_are_part_of_the_fingerprints(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["[THINK]", "[/THINK]"])
    tokenizer.save_pretrained(str(model))
    assert settled(RoleConfig(model=str(model))) == {"marks": ["[THINK]", "[/THINK]"]}


@pytest.mark.parametrize(("old", "new"), [({}, {"max_num_seqs": 8}), ({"gpu_memory_utilization": 0.9}, {"gpu_memory_utilization": 0.8})])
def test_an_engines_memory_may_change_in_a_run_directory(old: dict[str, Any], new: dict[str, Any]) -> None:
    settings = [make_config(teacher={"engine": engine}).model_dump(mode="json") for engine in (old, new)]
    assert differing_settings(*settings) == []
    settings[1]["teacher"]["engine"]["dtype"] = "float32"
    assert differing_settings(*settings) == [("teacher.engine.dtype", None, "float32")]


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        ({"api": {**API, "base_url": "https://api.example.com/v1"}}, True),
        ({"api": {**API, "request_fields": {"reasoning_effort": "low"}}}, True),
        ({"model": "other", "api": API}, True),
        (
            {"api": {**API, "key_variable": "KEY", "request_timeout_s": 1, "max_retries": 0, "currency": "EUR", "max_tokens_total": 1}},
            False,
        ),
        ({"api": {**API, "price_per_million_input_tokens": 1, "price_per_million_output_tokens": 2, "max_cost": 3}}, False),
    ],
)
def test_an_endpoint_is_its_address_its_model_and_what_it_is_asked(change: dict[str, Any], is_other: bool) -> None:
    known, changed = ({"model": "m", **settings} for settings in ({"api": API}, change))
    assert (turn_fingerprints(make_config(teacher=known)) != turn_fingerprints(make_config(teacher=changed))) is is_other
    settings = [make_config(teacher=teacher).model_dump(mode="json") for teacher in (known, changed)]
    assert bool(differing_settings(*settings)) is is_other


@pytest.mark.parametrize(
    ("template", "changed"),
    [
        ("solve: 'Solve {question}'", {"attempt", "critique", "refinement"}),
        ("critique: 'Judge {question} {attempt}'", {"critique", "refinement"}),
        ("refine: 'Again.'", {"refinement"}),
        ("revise: 'Use {critique}'", set()),
    ],
)
def test_wording_changes_the_columns_it_makes(template: str, changed: set[str], tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(template)
    fingerprints = turn_fingerprints(make_config(prompts=str(path)))
    assert {stage for stage in BASE if fingerprints[stage] != BASE[stage]} == changed


def test_weights_config_and_template_are_part_of_a_local_models_identity(tmp_path: Path) -> None:
    seen = {model_identity(str(MODELS / "student"))}
    for name in ("config.json", "chat_template.jinja", "tokenizer.json"):
        copy = tmp_path / name
        shutil.copytree(MODELS / "student", copy)
        assert model_identity(str(copy)) in seen  # its place is not
        with (copy / name).open("r+b") as stream:
            stream.seek(-1, 2)
            stream.write(b" ")
        seen.add(model_identity(str(copy)))
    assert len(seen) == 4


def test_another_value_in_any_tensor_is_another_model(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(MODELS / "student", copy)
    weights = load_file(copy / "model.safetensors")
    seen = {model_identity(str(copy))}
    for name, tensor in weights.items():
        save_file({**weights, name: tensor * 1.01}, copy / "model.safetensors")
        seen.add(model_identity(str(copy)))
    assert len(seen) == len(weights) + 1
    (copy / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file; copy the model again"):
        model_identity(str(copy))


def test_a_hub_model_is_named_with_its_commit_or_said_to_be_unknown() -> None:
    assert model_identity("some-body/some-model-that-is-not-cached") == "some-body/some-model-that-is-not-cached@unknown"


def test_an_evaluated_model_has_the_fingerprint_of_a_student() -> None:
    assert attempt_fingerprint(RoleConfig(model=str(MODELS / "student")), Prompts()) == BASE["attempt"]
