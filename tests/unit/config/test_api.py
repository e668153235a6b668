"""An endpoint's settings: a key is refused where an address or a name belongs, and never repeated; only the teacher may be elsewhere."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from cgd_ray.cluster.preflight import check_key, check_models
from cgd_ray.config import Config, load_config, to_yaml

BASE_URL = "https://api.example.org/v1"


def load(tmp_path: Path, teacher: dict[str, Any], student: dict[str, Any] | None = None) -> Any:
    tree = {
        "run_dir": str(tmp_path / "run"),
        "problems": {"path": "problems.jsonl"},
        "student": {"model": "s", **(student or {})},
        "teacher": {"model": "m", **teacher},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    return load_config(tmp_path / "config.yaml")


def test_a_teacher_may_be_an_endpoint_and_its_models_name_stays_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    config = load(tmp_path, {"api": {"base_url": BASE_URL, "key_variable": "EXAMPLE_KEY"}})
    assert (config.teacher.model, config.student.model) == ("m", "s")
    assert "key_variable: EXAMPLE_KEY" in to_yaml(config, with_docs=True)


@pytest.mark.parametrize(
    ("api", "message"),
    [
        ({"key_variable": "sk-secret"}, "key_variable is no name of an environment variable"),
        ({"key_variable": "gsk_secret"}, "key_variable is no name of an environment variable"),
        ({"base_url": "https://user:secret@api.example.org/v1"}, "base_url holds more than an address"),
        ({"base_url": "https://api.example.org/v1?key=secret"}, "base_url holds more than an address"),
        ({"base_url": "secret"}, "base_url is no address"),
        (
            {"max_cost": 5},
            "max_cost is 5, but price_per_million_input_tokens is None and price_per_million_output_tokens is None; set both",
        ),
        ({"max_retries": -1}, "setting teacher.api.max_retries is -1"),
        ({"api_key": "secret"}, "unknown setting teacher.api.api_key"),
    ],
)
def test_what_is_no_endpoint_is_refused_in_one_line_that_repeats_no_key(tmp_path: Path, api: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        load(tmp_path, {"api": {"base_url": BASE_URL, **api}})
    assert "secret" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_the_student_cannot_be_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"student.api is {BASE_URL}, but the student is trained and cannot be elsewhere; remove it"):
        load(tmp_path, {}, student={"api": {"base_url": BASE_URL}})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"engine": {"dtype": "float32"}}, r"engine is {'dtype': 'float32'} and api is set; engine arguments are vLLM's: remove one"),
        ({"adapter": "lora"}, "adapter is lora and api is set; the endpoint has its own models: remove one"),
        ({"chat_template": "t.jinja"}, "chat_template is t.jinja and api is set; the endpoint has its own template: remove one"),
        ({"request_timeout_s": 60}, r"request_timeout_s is 60.0 and api is set; it has no effect .*: set api.request_timeout_s"),
        ({"stall_timeout_s": 60}, "stall_timeout_s is 60.0 and api is set; it has no effect on an endpoint: remove it"),
    ],
)
def test_settings_of_an_engine_are_refused_for_an_endpoint(setting: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^teacher: {message}") as refused:
        load(tmp_path, {"api": {"base_url": BASE_URL}, **setting})
    assert len(str(refused.value).splitlines()) == 1


def test_a_config_with_an_endpoint_can_be_dumped_and_read_again(tmp_path: Path) -> None:
    config = load(tmp_path, {"api": {"base_url": BASE_URL}})
    assert Config.model_validate(config.model_dump(mode="json")) == config
    (tmp_path / "again.yaml").write_text(to_yaml(config, with_docs=True))
    assert load_config(tmp_path / "again.yaml") == config


def test_an_endpoint_needs_its_key_and_no_model_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXAMPLE_KEY", raising=False)
    student = {"model": "examples/tinymath/models/student", "context_length": 1024}
    config = load(tmp_path, {"model": "/not/a/directory", "api": {"base_url": BASE_URL, "key_variable": "EXAMPLE_KEY"}}, student)
    check_models(config, pa.table({"question": ["What is 1 + 1?"]}))
    with pytest.raises(ValueError, match="key_variable EXAMPLE_KEY is not set in this environment; set it"):
        check_key(config.teacher)
    monkeypatch.setenv("EXAMPLE_KEY", "secret")
    check_key(config.teacher)
    check_key(config.student)
