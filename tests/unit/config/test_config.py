"""A config resolves to exactly what it says, survives being written, and names both values and the remedy when it is refused."""

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgd_ray.config import Config, PlacementConfig, Settings, differing_settings, load_config, named_paths, to_yaml

BASE = """
run_dir: runs/test
problems: {path: problems.jsonl}
student: &role
  model: some-body/some-model
  context_length: 512
  sampling: &sampling {max_tokens: 8}
teacher: *role
evaluation:
  problems: {path: held_out.jsonl}
  sampling: *sampling
"""
NO_LINE_BREAKS = st.characters(exclude_categories=["Cs"], exclude_characters="\x85")  # PyYAML reads a written NEL back as a space


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config file in a current directory of its own."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(BASE)
    return file


def make_config(**changes: Any) -> Config:
    return Config.model_validate({**yaml.safe_load(BASE), **changes})


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all settings."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def with_leaf(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {**tree, first: with_leaf(tree[first], rest, value) if rest else value}


def node_types(model: type[Settings]) -> Iterator[type[Settings]]:
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Settings):
                yield from node_types(kind)


def test_an_override_changes_its_own_key_and_not_what_an_anchor_shares_with_it(base: Path) -> None:
    config = load_config(base, ["teacher.sampling.max_tokens=99", "teacher.sampling.stop=['###']", "evaluation.sampling.seed=4"])
    assert config.evaluation is not None
    assert config.teacher.sampling.max_tokens == 99
    assert config.teacher.sampling.stop == ("###",)
    assert (config.student.sampling.max_tokens, config.student.sampling.stop, config.student.sampling.seed) == (8, (), 0)
    assert (config.evaluation.sampling.max_tokens, config.evaluation.sampling.seed) == (8, 4)


def test_an_override_may_open_a_group_that_the_file_leaves_out_and_the_last_one_wins(base: Path) -> None:
    config = load_config(base, ["training.learning_rate=1e-4", "training.learning_rate=2e-4", "student.engine.dtype=float32"])
    assert config.training.learning_rate == 2e-4
    assert config.student.engine == {"dtype": "float32"}
    assert config.teacher.engine == {}
    assert load_config(base, ["evaluation=null"]).evaluation is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.lerning_rate=1", "unknown setting training.lerning_rate; did you mean learning_rate?"),
        ("evaluation.problems.pth=x", r"unknown setting evaluation.problems.pth; did you mean path\?"),
        ("student.sampling.xyzzy=1", "unknown setting student.sampling.xyzzy; valid here: temperature, top_p"),
        ("stduent.model=x", "unknown setting stduent; did you mean student?"),
        ("training.num_epochs=0", "setting training.num_epochs is 0: .* greater than or equal to 1"),
        ("training.arm=dpo", "training.arm: 'dpo' is no arm; valid here: cgd, refined_only, sft"),
        ("training.global_batch_size=7.5", "setting training.global_batch_size is 7.5: .*integer"),
        ("training.deepspeed={fp16: {enabled: true}}", "training.deepspeed: fp16 is {'enabled': True}; set training.precision"),
        ("teacher.placement.min_replicas=3", "teacher.placement: min_replicas 3 exceeds max_replicas 1; raise"),
        ("problems.reference_answer_pattern='#### .+'", "pattern '#### .\\+' has no group"),
        ("problems.reference_answer_pattern='('", "pattern '\\(' is no regular expression"),
        ("problems.path=null", "setting problems.path is None: .*string"),
        ("problems={}", "setting problems.path is missing; add it to the config or give problems.path=VALUE"),
        ("student.model.name=x", "override 'student.model.name=x': model is a value, not a group"),
        ("=1", "'=1' is not of the form a.b=c"),
    ],
)
def test_what_is_refused_is_named_with_its_value_and_the_remedy(override: str, expected: str, base: Path) -> None:
    with pytest.raises(ValueError, match=expected):
        load_config(base, [override])


def test_every_refusal_of_one_config_has_a_line_of_its_own(base: Path) -> None:
    with pytest.raises(ValueError, match="training") as refused:
        load_config(base, ["training.seeed=1", "training.num_epochs=0", "records=[1]"])
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- 1", "holds list, not a mapping"),
        ("", "holds NoneType"),
        ("a: [", "no valid YAML"),
        ("!!python/object:os.system {}", "no valid YAML"),
        ("records: 2026-13-45", "no valid YAML"),
        ("training: {seed: " + "9" * 5000 + "}", "no valid YAML"),
        ("a: " + "[" * 1000, "YAML that is nested too deep"),
        ("run_dir: a\0b", "no valid YAML"),
        ("run_dir: x".encode("utf-16"), "is not UTF-8 text .*; convert it"),
        (bytes(range(256)), "is not UTF-8 text .*; convert it"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(content: str | bytes, expected: str, base: Path) -> None:
    base.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"{base.name}.* {expected}") as refused:
        load_config(base)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/nowhere.yaml", "does not exist; jobs/configs/"),
        ("/proc", "cannot be read .Is a directory."),
        ("/proc/self/mem", "cannot be read"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused_with_the_reason(place: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^config {place} {expected}"):
        load_config(place)


@pytest.mark.parametrize("with_docs", [False, True])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=st.text(NO_LINE_BREAKS, max_size=30),
    stop=st.lists(st.text(NO_LINE_BREAKS, max_size=10), max_size=3),
    rate=st.floats(min_value=1e-12, max_value=1.0, exclude_min=True),
    long=st.integers(0, 2000),
)
def test_a_config_that_is_written_and_read_again_is_the_same(with_docs: bool, text: str, stop: list[str], rate: float, long: int) -> None:
    sampling = {"stop": [*stop, "x " * long]}
    role = {
        "model": text,
        "sampling": sampling,
        "engine": {f"further {text}": [1, None, {text: 1.5}]},
        "chat_template_kwargs": {"a": {"b": False}},
    }
    config = make_config(student=role, run_dir=text, training={"learning_rate": rate}, records=text)
    again = Config.model_validate(yaml.safe_load(to_yaml(config, with_docs)))
    assert again == config
    assert differing_settings(config.model_dump(mode="json"), again.model_dump(mode="json")) == []


def test_every_setting_is_documented_and_printed_under_its_documentation() -> None:
    printed = to_yaml(make_config(), with_docs=True)
    for model in set(node_types(Config)):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no documentation"
            assert f"# {field.description.splitlines()[-1]}\n" in printed


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_config().training.seed = 1  # type: ignore[misc]


def test_settings_that_say_where_and_how_fast_a_run_executes_or_what_is_asked_afterwards_do_not_differ_and_all_others_do() -> None:
    tree = make_config().model_dump(mode="json")
    ignored = set()
    for key in leaves(tree):
        differences = differing_settings(tree, with_leaf(tree, key, "another"))
        assert [(name, new) for name, _, new in differences] in ([], [(key, "another")])
        if not differences:
            ignored.add(key)
    placement = {f"{role}.placement.{name}" for role in ("student", "teacher") for name in PlacementConfig.model_fields}
    limits = {f"{role}.{name}" for role in ("student", "teacher") for name in ("request_timeout_s", "stall_timeout_s")}
    generation = {f"generation.{name}" for name in ("rows_per_block", "batch_size", "max_failed_fraction", "reuse")}
    generation |= {f"generation.teacher_check.{name}" for name in ("rows", "least")}
    workers = ("num_workers", "cpus_per_worker", "use_gpu", "zero_stage", "micro_batch_size", "offload", "max_failures")
    memory = ("logits_chunk_tokens", "activation_checkpointing")
    kept = ("checkpoint_every_steps", "keep_checkpoints", "trackers")
    repeated = ("deterministic", "collective_timeout_s")
    training = {f"training.{name}" for name in (*workers, *memory, *kept, *repeated)}
    asked_afterwards = {f"evaluation.{name}" for name in ("benchmarks", "k", "grader")}
    asked_afterwards |= {f"diagnostics.{name}" for name in ("max_records", "per_token", "seed")}
    assert ignored == {
        "run_dir",
        "working_dir",
        "cluster.address",
        "cluster.num_cpus",
        "cluster.max_resources",
        "cluster.allow_open_dashboard",
        *placement,
        *limits,
        *generation,
        *training,
        *asked_afterwards,
    }


@pytest.mark.parametrize(("setting", "role", "what"), [("num_samples", "student", "attempt"), ("refine_attempts", "teacher", "refinement")])
def test_repetitions_of_a_greedy_model_are_refused(setting: str, role: str, what: str) -> None:
    message = (
        f"generation.{setting} 2 with {role}.sampling.temperature 0 would repeat one and the same {what}; set a temperature, or {setting}"
    )
    with pytest.raises(ValueError, match=message):
        make_config(generation={setting: 2})
    make_config(generation={setting: 2}, **{role: {"model": "m", "sampling": {"temperature": 0.7}}})


def test_finished_records_are_not_streamed() -> None:
    with pytest.raises(ValueError, match=r"training.streaming is true and records is /there/records, which is finished, .*; set"):
        make_config(records="/there/records", training={"streaming": True})


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"evaluation": None}, "evaluation.problems.path"),
        ({"student": {"model": "m", "engine": {"dtype": "float32"}}}, "student.engine.dtype"),
        ({"records": "/there/records"}, "records"),
    ],
)
def test_a_setting_that_comes_or_goes_differs_both_ways(changed: dict[str, Any], key: str) -> None:
    one, other = make_config().model_dump(mode="json"), make_config(**changed).model_dump(mode="json")
    there, back = differing_settings(one, other), differing_settings(other, one)
    assert key in {name for name, _, _ in there}
    assert sorted(there, key=str) == sorted(((name, old, new) for name, new, old in back), key=str)


def test_local_paths_become_absolute_and_hub_names_stay(base: Path) -> None:
    for name in ("problems.jsonl", "held_out.jsonl", "words.yaml"):
        (base.parent / name).touch()
    (base.parent / "model").mkdir()
    overrides = ["teacher.model=model", "student.adapter=adapters/one", "prompts=words.yaml", "records=other/records"]
    config = load_config(base, overrides)
    assert config.evaluation is not None
    assert config.evaluation.problems is not None
    here = str(base.parent)
    assert config.run_dir == f"{here}/runs/test"  # it need not exist yet
    assert (config.problems.path, config.evaluation.problems.path) == (f"{here}/problems.jsonl", f"{here}/held_out.jsonl")
    assert (config.prompts, config.records) == (f"{here}/words.yaml", f"{here}/other/records")
    assert (config.student.model, config.teacher.model) == ("some-body/some-model", f"{here}/model")
    assert (config.student.adapter, config.teacher.adapter) == (f"{here}/adapters/one", None)


def test_a_set_of_prompts_is_a_word_and_no_path(base: Path) -> None:
    (base.parent / "qwen").touch()
    config = load_config(base, ["prompts=qwen"])
    assert config.prompts == "qwen"
    assert "prompts" not in named_paths(config)
    named = load_config(base, ["prompts=./qwen"])
    assert (named.prompts, named_paths(named)["prompts"]) == (f"{base.parent}/qwen", f"{base.parent}/qwen")


def test_home_directories_and_variables_are_expanded_in_every_path(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    overrides = [
        "run_dir=~/runs/x",
        "problems.path=$DATA/train.jsonl",
        "problems.mix=[{path: ~/more.jsonl}]",
        "problems.decontaminate={against: [{path: '${DATA}/test.jsonl'}]}",
        "evaluation.problems.path=${DATA}/held_out.jsonl",
        "student.model=$HOME/student",
        "student.adapter=~/adapter",
        "teacher.chat_template=$DATA/chat.jinja",
        "prompts=~/words.yaml",
        "records=$DATA/records",
        "generation.reuse=[~/old/records, $DATA/other]",
    ]
    config = load_config(base, overrides)
    assert config.evaluation is not None
    assert config.evaluation.problems is not None
    assert config.problems.decontaminate is not None
    assert [
        *(config.run_dir, config.problems.path, config.problems.mix[0].path, config.problems.decontaminate.against[0].path),
        *(config.evaluation.problems.path, config.student.model, config.student.adapter, config.teacher.chat_template),
        *(config.prompts, config.records, *config.generation.reuse),
    ] == [
        *("/home/me/runs/x", "/data/train.jsonl", "/home/me/more.jsonl", "/data/test.jsonl"),
        *("/data/held_out.jsonl", "/home/me/student", "/home/me/adapter", "/data/chat.jinja"),
        *("/home/me/words.yaml", "/data/records", "/home/me/old/records", "/data/other"),
    ]
    assert load_config(base, ["teacher={model: $odd/~name, api: {base_url: http://localhost/v1}}"]).teacher.model == "$odd/~name"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("run_dir=$NOWHERE/x", r"^run_dir is '\$NOWHERE/x', and the environment has no variable 'NOWHERE'; set it, or write the path out$"),
        ("problems.path=${NOWHERE}", r"^problems.path is '\${NOWHERE}', and the environment has no variable"),
        ("generation.reuse=[a, $EMPTY/b]", "^generation.reuse.1 is .* no variable 'EMPTY'"),
        ("student.model=~nobody-at-all/m", "^student.model is '~nobody-at-all/m', and there is no such home directory"),
    ],
)
def test_a_path_that_cannot_be_expanded_is_refused(override: str, expected: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(ValueError, match=expected):
        load_config(base, [override])


@pytest.mark.parametrize("argument", ["add_generation_prompt", "tokenize", "chat_template", "continue_final_message", "messages"])
def test_an_argument_of_the_chat_template_that_is_decided_here_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"chat_template_kwargs.{argument} is False; .*: remove it|chat_template_kwargs.chat_template"):
        make_config(student={"model": "m", "chat_template_kwargs": {argument: False}})


@pytest.mark.parametrize(
    ("argument", "value", "remedy"),
    [
        ("max_model_len", 4096, "set context_length"),
        ("tensor_parallel_size", 8, "set placement.gpus_per_replica"),
        ("trust_remote_code", True, "a model's own code is never run"),
    ],
)
def test_an_engine_argument_that_another_setting_decides_is_refused(argument: str, value: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match=f"engine.{argument} is {value!r}; {remedy}"):
        make_config(student={"model": "m", "engine": {argument: value}})
