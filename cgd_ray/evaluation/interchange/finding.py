"""Which evaluations a path holds, told from the files themselves.

How to use: `evaluations = find_evaluations(Path("results/"))`, one for each benchmark of one model.
"""

from collections.abc import Sequence
from pathlib import Path

from cgd_ray.evaluation.interchange.bounded import read_bounded_object
from cgd_ray.evaluation.interchange.inspect_reading import read_inspect_archive, read_inspect_log
from cgd_ray.evaluation.interchange.lm_eval_reading import read_lm_eval
from cgd_ray.evaluation.interchange.neutral import Evaluation
from cgd_ray.evaluation.interchange.own import GRADED, read_own

RESULTS, INSPECT = "results_*.json", "*.eval"
EXPECTED = (
    "expected RUN/evaluation/MODEL or one benchmark's directory in it (graded.parquet), lm-eval's results_*.json with its samples_*.jsonl, "
    "or a log of Inspect's (.eval, .json)"
)


def find_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations at a path, by benchmark, all of one model. Raises ValueError, one line that names the path, where that is not so."""
    found = _in_directory(path) if path.is_dir() else _in_file(path)
    if not found:
        raise ValueError(f"{path} holds no evaluation; {EXPECTED}")
    _check_one_model(path, found)
    return sorted(found, key=lambda evaluation: evaluation.benchmark)


def _in_file(path: Path) -> list[Evaluation]:
    if not path.is_file():
        raise ValueError(f"{path} is not there; {EXPECTED}")
    if path.suffix == ".eval":
        return [read_inspect_archive(path)]
    if path.suffix == ".json":
        content = read_bounded_object(path)
        if "eval" in content and "status" in content:
            return [read_inspect_log(path, content)]
        if "results" in content and "configs" in content:
            return read_lm_eval(path, content)
    return []


def _in_directory(path: Path) -> list[Evaluation]:
    if (path / GRADED).is_file():
        return [read_own(path)]
    if own := sorted(path.glob(f"*/{GRADED}")):
        return [read_own(graded.parent) for graded in own]
    if results := sorted(path.glob(RESULTS)) or sorted(path.glob(f"*/{RESULTS}")):
        if len(results) > 1:
            raise ValueError(f"{path} holds {len(results)} results of lm-eval, {results[0]} and {results[-1]} among them; give one")
        return _in_file(results[0])
    if logs := sorted(path.glob(INSPECT)):
        return [read_inspect_archive(log) for log in logs]
    return [evaluation for file in sorted(path.glob("*.json")) for evaluation in _in_file(file)]


def _check_one_model(path: Path, found: Sequence[Evaluation]) -> None:
    """One model, and one evaluation of each benchmark: with two it would be chance which is compared."""
    seen: dict[str, Evaluation] = {}
    for evaluation in found:
        if evaluation.model != found[0].model:
            raise ValueError(f"{path} holds evaluations of {found[0].model!r} and of {evaluation.model!r}; give one model's")
        if (first := seen.setdefault(evaluation.benchmark, evaluation)) is not evaluation:
            raise ValueError(
                f"{path} holds two evaluations of {evaluation.benchmark!r}, {first.path.name} and {evaluation.path.name}; give one of them"
            )
