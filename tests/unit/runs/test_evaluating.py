"""Any model can be evaluated by itself: what cannot be asked is refused in one line, and a run's own models keep their names."""

from pathlib import Path
from typing import Any

import pytest

from cgd_ray.config import Config
from cgd_ray.process.faults import RefusedError
from cgd_ray.runs.evaluating import evaluate_model, name_of, role_of_endpoint, role_of_model

MODEL = "examples/tinymath/models/student"


def config_of(root: Path, **settings: Any) -> Config:
    tree = {
        "run_dir": str(root / "run"),
        "problems": {"path": "p"},
        "student": {"model": "m", "context_length": 512},
        "teacher": {"model": "m"},
    }
    return Config.model_validate({**tree, "evaluation": {"benchmarks": ["tinymath"]}, **settings})


def test_a_model_stands_in_the_students_place_and_with_its_settings(tmp_path: Path) -> None:
    config = config_of(tmp_path, student={"model": "m", "revision": "r", "adapter": "/a", "context_length": 512})
    role = role_of_model(config, MODEL)
    assert (role.model, role.revision, role.adapter, role.context_length) == (str(Path(MODEL).absolute()), None, None, 512)
    assert role_of_model(config, "org/model").model == "org/model"


def test_an_endpoint_has_a_model_an_address_and_a_variable_with_its_key(tmp_path: Path) -> None:
    role = role_of_endpoint(config_of(tmp_path), "https://127.0.0.1/v1", "org/some model: 1.0", "MY_KEY")
    assert role.api is not None
    assert (role.model, role.api.base_url, role.api.key_variable) == ("org/some model: 1.0", "https://127.0.0.1/v1", "MY_KEY")
    with pytest.raises(ValueError, match=r"^api: base_url is no address"):
        role_of_endpoint(config_of(tmp_path), "127.0.0.1", "m", None)
    passed_through = {"benchmarks": ["tinymath"], "sampling": {"extra": {"bad_words": ["Hmm"]}}}
    with pytest.raises(ValueError, match=r"evaluation.sampling.extra is .* and the model is at an endpoint; set it to \{\}"):
        role_of_endpoint(config_of(tmp_path, evaluation=passed_through), "https://127.0.0.1/v1", "m", None)


@pytest.mark.parametrize(
    ("model", "name"), [("org/Some-Model", "Some-Model"), ("/runs/x/model/", "model"), ("a b:c", "a-b-c"), ("/", "model")]
)
def test_a_model_gives_its_answers_a_name(model: str, name: str) -> None:
    assert name_of(model) == name


def without_weights(root: Path) -> str:
    directory = root / "empty"
    directory.mkdir()
    (directory / "config.json").write_text((Path(MODEL) / "config.json").read_text())
    return str(directory)


@pytest.mark.parametrize(
    ("model", "name", "settings", "refusal"),
    [
        (without_weights, "m", {}, r"student\.model .*/empty has no \.safetensors weights; convert them"),
        (lambda root: str(root / "nothing"), "m", {}, r"student\.model .*/nothing does not exist; give a model directory or a hub name"),
        (lambda root: MODEL, "base", {}, "name is 'base'; give letters, digits, _, - and dots, but not base or trained"),
        (lambda root: MODEL, "../x", {}, r"name is '\.\./x'"),
        (lambda root: MODEL, "m", {"evaluation": None}, "evaluation is null, so there is nothing to ask"),
        (
            lambda root: MODEL,
            "m",
            {"evaluation": {"benchmarks": ["nothing"]}},
            "evaluation.benchmarks has 'nothing', which is no benchmark",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    model: Any, name: str, settings: dict[str, Any], refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = config_of(tmp_path, **settings)
    with pytest.raises(RefusedError, match=refusal) as caught:
        evaluate_model(config, role_of_model(config, model(tmp_path)), name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "evaluation").exists()
