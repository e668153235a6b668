"""A comparison's file: what it may name, and the one line for each mistake in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cgd_ray.config.comparison import ARMS, base_config, load_comparison

BASE = {"run_dir": "r", "problems": {"path": "p.jsonl"}, "student": {"model": "s"}, "teacher": {"model": "t"}}
EVALUATED = {**BASE, "evaluation": {"problems": {"path": "h.jsonl"}}}


def write(root: Path, base: dict[str, Any] = EVALUATED, **settings: Any) -> Path:
    """The files of a run and of a comparison; returns the latter's."""
    (root / "base.yaml").write_text(yaml.safe_dump(base))
    content = {"base": "base.yaml", "run_dir": str(root / "run"), "arms": ["base", "sft", "cgd"], "seeds": [0], **settings}
    (root / "compare.yaml").write_text(yaml.safe_dump(content))
    return root / "compare.yaml"


def test_arms_are_names_and_ablations_of_cgds_critiques(tmp_path: Path) -> None:
    arms = ["sft", "cgd", {"cgd": "shuffled"}, {"cgd": "verdict_only"}, "cgd-none"]
    comparison = load_comparison(write(tmp_path, arms=arms))
    assert comparison.arms == ("sft", "cgd", "cgd-shuffled", "cgd-verdict_only", "cgd-none")
    assert [ARMS[arm] for arm in comparison.arms[1:3]] == [("cgd", "specific"), ("cgd", "shuffled")]
    assert load_comparison(write(tmp_path, arms=[{"cgd": "specific"}])).arms == ("cgd",)


def test_settings_and_overrides_reach_the_runs_and_the_base_is_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, settings={"problems": {"limit": 5}, "student": {"engine": {"dtype": "float32"}}})
    config = base_config(load_comparison(path, ["settings.training.num_epochs=3", "settings.training.learning_rate=1e-05", "seeds=[4]"]))
    assert (config.problems.limit, config.training.num_epochs, config.training.learning_rate) == (5, 3, 1e-5)
    assert config.student.engine == {"dtype": "float32"}
    assert config.run_dir == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": ["sft", "cgdd"]}, r"^arms.1: 'cgdd' is no arm; did you mean cgd or"),
        ({"arms": ["cgd", {"cgd": "shuffeled"}]}, r"'cgd-shuffeled' is no arm; did you mean cgd-shuffled"),
        ({"arms": ["cgd", {"sft": "shuffled"}]}, r"'sft-shuffled' is no arm"),
        ({"arms": ["cgd", "zzz"]}, r"'zzz' is no arm; valid here: base, cgd, "),
        ({"arms": []}, r"arms is empty, so there is nothing to train; give for instance \[sft, cgd\]"),
        ({"arms": ["base"]}, r"reference is cgd, which is not among the arms that are trained \(\)"),
        ({"arms": ["cgd", "cgd"]}, "arms has cgd 2 times; name it once"),
        ({"seeds": []}, r"seeds is empty, so there is nothing to train; give for instance \[0, 1, 2\]"),
        ({"seeds": [0, 1, 0]}, "seeds has 0 2 times"),
        ({"reference": "cft"}, r"reference is cft, which is not among the arms that are trained \(sft, cgd\); add it to arms"),
        ({"reference": "base"}, "reference is base, which is not among the arms"),
        ({"learning_rates": [1e-4, 0]}, "setting learning_rates.1 is 0: Input should be greater than 0"),
        ({"verdict_mixes": [{"right": 0.5}]}, "add up to 0.5, not to 1"),
        ({"budget": "hours"}, "setting budget is 'hours': Input should be 'steps', 'examples' or 'tokens'"),
        ({"parallel": 2}, "unknown setting parallel; did you mean parallel_cells"),
        ({"run_dir": "s3://bucket/run"}, "run_dir is s3://bucket/run, and a comparison's runs share files; give a directory"),
    ],
)
def test_what_cannot_be_compared_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_comparison(write(tmp_path, **settings))


@pytest.mark.parametrize(
    ("base", "settings", "message"),
    [
        (BASE, {}, "evaluation is null in .*base.yaml, so nothing can be compared"),
        ({**EVALUATED, "training": {"streaming": True}}, {}, "training.streaming is true in .*base.yaml, and all arms train on the same"),
        (EVALUATED, {"training": {"arm": "sft"}}, "settings.training.arm is 'sft', which a comparison decides for each run; remove it"),
        (EVALUATED, {"problem": {"limit": 5}}, "unknown setting problem; did you mean problems"),
    ],
)
def test_a_base_that_cannot_be_compared_is_refused(base: dict[str, Any], settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        base_config(load_comparison(write(tmp_path, base, settings=settings)))


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config .*other.yaml does not exist"):
        base_config(load_comparison(write(tmp_path), ["base=other.yaml"]))
