"""Every config that is shipped is one: its settings are known and agree with each other, and its benchmarks are in the catalogue."""

import re
from pathlib import Path

import pytest

from cgd_ray.config import read_config
from cgd_ray.config.comparison import ComparisonConfig
from cgd_ray.config.loading import read_settings
from cgd_ray.evaluation.benchmarks.catalogue import benchmark_named

ROOT = Path(__file__).parents[3]
CONFIGS = sorted(
    [
        *(ROOT / "jobs" / "configs").glob("*.yaml"),
        *(ROOT / "jobs" / "configs" / "recipes").glob("*.yaml"),
        *(ROOT / "examples" / "real").glob("*.yaml"),
    ]
)
COMPARISONS = [path for path in CONFIGS if path.name.startswith("compare_")]
RUNS = [path for path in CONFIGS if path not in COMPARISONS]


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", RUNS, ids=named)
def test_a_config_of_a_run_is_valid(path: Path) -> None:
    config = read_config(path)
    for benchmark in config.evaluation.benchmarks if config.evaluation else ():
        assert benchmark_named(benchmark.name).name == benchmark.name


@pytest.mark.parametrize("path", COMPARISONS, ids=named)
def test_a_config_of_a_comparison_is_valid(path: Path) -> None:
    assert (path.parent / read_settings(ComparisonConfig, path).base).exists()


def test_local_copies_take_the_place_of_what_is_on_the_hub() -> None:
    config = read_config(ROOT / "examples" / "real" / "mawps.yaml", ["student.model=small", "teacher.model=large", "problems.path=x.jsonl"])
    assert (config.student.model, config.teacher.model, config.problems.path) == ("small", "large", "x.jsonl")


def test_the_answer_of_a_solution_in_math_is_taken_whole() -> None:
    pattern = read_config(ROOT / "examples" / "real" / "math.yaml").problems.reference_answer_pattern
    assert pattern is not None
    found = re.search(pattern, r"So $x=\boxed{\frac{1}{\sqrt{2}}}$, as {said}.")
    assert found is not None
    assert found[1] == r"\frac{1}{\sqrt{2}}"
