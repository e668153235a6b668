"""An evaluation asks something, and asks often enough for each k; a benchmark is a name, or a name with settings of its own."""

from typing import Any

import pytest

from cgd_ray.config import BenchmarkConfig, Config, EvaluationConfig, differing_settings, named_paths, to_yaml, without_places
from cgd_ray.config.paths import resolved

SAMPLED = {"sampling": {"temperature": 0.6}}
FILE = {"problems": {"path": "held_out.jsonl"}}


def evaluation(**settings: Any) -> EvaluationConfig:
    return EvaluationConfig.model_validate(settings)


def config(**settings: Any) -> Config:
    tree = {"run_dir": "/r", "problems": {"path": "/p"}, "student": {"model": "m"}, "teacher": {"model": "m"}}
    return Config.model_validate({**tree, "evaluation": settings})


def test_a_benchmark_is_a_name_or_a_name_with_settings() -> None:
    asked = evaluation(benchmarks=["gsm8k", {"name": "aime25", "num_samples": 8, "k": [1, 8]}], num_samples=2, k=[2], **SAMPLED)
    first, second = asked.benchmarks
    assert (first, asked.samples_of(first), asked.k_of(first)) == (BenchmarkConfig(name="gsm8k"), 2, (2,))
    assert (second.name, asked.samples_of(second), asked.k_of(second)) == ("aime25", 8, (1, 8))


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({}, "problems is null and benchmarks is empty, so nothing is asked"),
        ({**FILE, "k": [1, 4]}, r"k is \[1, 4\] and num_samples 1, .* raise num_samples to 4, or lower k"),
        ({**FILE, "k": []}, r"k is empty; write \[1\]"),
        ({"benchmarks": [{"name": "aime25", "k": [2]}]}, r"k of benchmark aime25 is \[2\] and num_samples 1"),
        ({**FILE, "num_samples": 4}, "num_samples 4 with sampling.temperature 0 would repeat one and the same answer"),
        ({"benchmarks": [{"name": "aime25", "num_samples": 4}]}, "num_samples 4 with sampling.temperature 0"),
        ({"benchmarks": ["aime25", "gsm8k", "aime25"]}, "benchmarks names aime25 2 times; name it once"),
        ({"benchmarks": [{"name": "gsm8k", "path": "f", "revision": "c"}]}, "path is f and revision c, which is the hub's; remove one"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(settings: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ValueError, match=refusal):
        evaluation(**settings)


def test_k_of_the_own_problems_is_not_asked_of_an_evaluation_without() -> None:
    asked = evaluation(benchmarks=[{"name": "aime25", "num_samples": 4, "k": [4]}], k=[8], **SAMPLED)
    assert asked.k_of(asked.benchmarks[0]) == (4,)


def test_a_run_takes_further_benchmarks_and_still_is_the_same_run() -> None:
    before, after = config(**FILE), config(**FILE, benchmarks=["gsm8k"], grader="loose")
    assert differing_settings(before.model_dump(mode="json"), after.model_dump(mode="json")) == []
    other = config(**FILE, sampling={"max_tokens": 7})
    assert [key for key, _, _ in differing_settings(before.model_dump(mode="json"), other.model_dump(mode="json"))] == [
        "evaluation.sampling.max_tokens"
    ]


def test_a_benchmarks_file_is_a_path_like_all_others(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = resolved(config(benchmarks=["gsm8k", {"name": "aime25", "path": "aime.jsonl"}]))
    assert named_paths(made)["evaluation.benchmarks.1.path"] == f"{tmp_path}/aime.jsonl"
    assert "evaluation.benchmarks.0.path" not in named_paths(made)
    assert without_places(made.model_dump(mode="json"))["evaluation"]["problems"] is None
    assert "Published test sets by name" in to_yaml(made, with_docs=True)
