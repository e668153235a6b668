"""The recipes: of each family the published settings, and beside them ours, each difference with its reason."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cgd_ray.config import Config, load_config, read_config
from cgd_ray.evaluation.benchmarks.catalogue import benchmark_named

RECIPES = Path(__file__).parents[3] / "jobs" / "configs" / "recipes"
FAMILIES = sorted(path.stem.removesuffix("_published") for path in RECIPES.glob("*_published.yaml"))
every_family = pytest.mark.parametrize("family", FAMILIES)


def recipe(name: str) -> Config:
    return read_config(RECIPES / f"{name}.yaml")


def setting_of(line: str) -> str:
    """A line of YAML without its comment."""
    return line.partition("  #")[0].partition(" # ")[0].rstrip()


def unexplained(lines: list[str], others: set[str]) -> Iterator[str]:
    """Settings that the other recipe lacks, without a comment beside them, in the line above, or beside what they are part of."""
    explained_above: list[tuple[int, bool]] = []
    for index, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        while explained_above and explained_above[-1][0] >= indent:
            explained_above.pop()
        explained = "#" in line or lines[index - 1].lstrip().startswith("#") or any(told for _, told in explained_above)
        explained_above.append((indent, explained))
        if setting_of(line) not in others and not explained and not line.endswith(":"):
            yield line


def test_each_family_has_both_recipes_and_there_are_no_others() -> None:
    assert sorted(path.stem for path in RECIPES.glob("*.yaml")) == sorted([*FAMILIES, *(f"{family}_published" for family in FAMILIES)])
    assert FAMILIES == ["llama31_8b", "mixtral_8x7b", "olmo2_7b", "qwen25_math_7b_api", "qwen25_math_7b_s1", "s1_3b"]


@every_family
def test_a_recipe_says_what_it_is_and_for_which_cluster(family: str) -> None:
    for name in (family, f"{family}_published"):
        text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
        head = " ".join(line.removeprefix("# ") for line in text.partition("\nrun_dir")[0].splitlines())
        assert " x A100-80GB" in head if name.endswith("published") else " x H100-80GB" in head
        assert load_config(RECIPES / f"{name}.yaml").run_dir == f"/shared/runs/{name}"


@every_family
def test_the_published_settings_are_as_published(family: str) -> None:
    config = recipe(f"{family}_published")
    for role in (config.student, config.teacher):
        assert (role.sampling.temperature, role.sampling.max_tokens) == (0.0, 16384)
    assert config.teacher.api is not None or (config.teacher.context_length, config.teacher.placement.gpus_per_replica) == (32768, 8)
    training = config.training
    assert (training.arm, training.learning_rate, training.global_batch_size, training.num_epochs) == ("cgd", 1e-6, 64, 1)
    assert (config.problems.limit, config.problems.decontaminate, config.prompts) == (100_000, None, None)
    assert (config.selection.keep, config.selection.drop_leaks, config.selection.cut_attempts) == ("all", (), "use")
    assert training.lora is None
    assert config.evaluation is not None
    assert {benchmark.grader for benchmark in config.evaluation.benchmarks} == {"loose"}
    assert config.evaluation.sampling.temperature == 0.0


@every_family
def test_ours_trains_the_same_pair_in_the_same_way_and_never_on_what_it_is_measured_by(family: str) -> None:
    ours, published = recipe(family), recipe(f"{family}_published")
    assert ours.student.model == published.student.model
    assert ours.teacher.api is not None or ours.teacher.model == published.teacher.model
    for name in ("arm", "learning_rate", "global_batch_size", "num_epochs"):
        assert getattr(ours.training, name) == getattr(published.training, name)
    assert ours.training.validation is not None
    assert (ours.training.export, ours.training.validation.choose_by) == ("best", "loss")
    assert ours.problems.decontaminate is not None
    assert ours.evaluation is not None
    asked = [benchmark_named(benchmark.name) for benchmark in ours.evaluation.benchmarks]
    described = [(each.path, each.revision, each.subset, each.split, each.fields.question) for each in ours.problems.decontaminate.against]
    wanted = {(each.place, each.revision, each.subset, each.split, each.fields.question) for each in asked}
    assert set(described) == wanted


@every_family
def test_each_difference_has_its_reason(family: str) -> None:
    published = (RECIPES / f"{family}_published.yaml").read_text(encoding="utf-8").splitlines()
    ours = (RECIPES / f"{family}.yaml").read_text(encoding="utf-8").splitlines()
    assert list(unexplained(ours, {setting_of(line) for line in published})) == []


def test_a_difference_without_a_reason_is_found() -> None:
    lines = ["a: 1   # why", "b:", "  c: 2", "  # why", "  d: 3", "e:   # why", "  f: 4"]
    assert list(unexplained(lines, set())) == ["  c: 2"]
