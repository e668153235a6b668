"""What evaluated models scored, and the problems on which they disagree, with the answers of each.

How to use: `models = evaluated([(label, run)])`, then `evaluations(models)` for charts and `disagreements(models)` for the browser.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import RunDir, read_json
from cgd_ray.reporting.page.reading import cut_text, read_columns, read_rows

MOST_ANSWERED = 2000
"""Problems times models of a benchmark whose answers are on a page."""
FEW_MODELS = 4
"""Up to which every model is compared with every other one; more are compared with the first."""
_SMALL = ("problem_id", "sample_index", "correct")
_SHOWN = ("attempt", "attempt_thinking", "attempt_tokens", "attempt_finish_reason", "error", "extracted", "grade_reason")


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One model's evaluation on one benchmark."""

    model: str
    """As the page calls it."""
    benchmark: str
    directory: Path


def evaluated(runs: Sequence[tuple[str, RunDir]]) -> list[Graded]:
    """Everything that was evaluated in some runs, each with its label. Runs that share an evaluation by links have it once, unlabelled."""
    found = [
        (label, model, benchmark, path)
        for label, run in runs
        for model, paths in run.evaluated().items()
        for benchmark, path in paths.items()
    ]
    shares = Counter(path.resolve() for *_, path in found)
    once: dict[Path, tuple[str, str, str, Path]] = {}
    for each in found:
        once.setdefault(each[-1].resolve(), each)
    return [
        Graded(model=model if len(runs) == 1 or shares[place] > 1 else f"{label} {model}", benchmark=benchmark, directory=path)
        for place, (label, model, benchmark, path) in once.items()
    ]


def evaluations(models: Sequence[Graded]) -> list[dict[str, Any]]:
    """A row for each model and benchmark: accuracy with its interval, pass@k with its band, and the shares of bad answers."""
    reports = [(graded, read_json(graded.directory / "report.json")) for graded in models]
    return [_evaluation(graded.model, graded.benchmark, report) for graded, report in reports if report]


def disagreements(models: Sequence[Graded]) -> list[dict[str, Any]]:
    """For each benchmark that several models answered: the models, and the problems of which they did not all get the same share right.

    A model has one right and one wrong answer there, as far as it gave both, and how many of its samples were right.
    """
    by_benchmark: dict[str, dict[str, Path]] = defaultdict(dict)
    for graded in models:
        by_benchmark[graded.benchmark][graded.model] = graded.directory / "graded.parquet"
    return [_disagreement(name, files) for name, files in by_benchmark.items() if len(files) > 1]


def _evaluation(model: str, benchmark: str, report: Mapping[str, Any]) -> dict[str, Any]:
    bands = report.get("pass@k_band") or {}
    return {
        "model": model,
        "benchmark": benchmark,
        "accuracy": report.get("avg@k"),
        "interval": report.get("interval"),
        "interval_kind": report.get("interval_kind"),
        "num_problems": report.get("num_problems"),
        "num_samples": report.get("num_samples"),
        "grader": report.get("grader"),
        "maj_at_k": report.get("maj@k"),
        "pass_at_k": [{"k": int(k), "value": value, "band": bands.get(k)} for k, value in (report.get("pass@k") or {}).items()],
        **{name: report.get(name) for name in ("strict", "lenient", "truncated", "unboxed", "failed")},
    }


def _disagreement(benchmark: str, files: Mapping[str, Path]) -> dict[str, Any]:
    tables = {model: read_columns(file, _SMALL) for model, file in files.items()}
    rates = {model: _rates(table) for model, table in tables.items()}
    common = set.intersection(*(set(found) for found in rates.values()))
    different = [problem for problem in common if len({right / total for right, total in (found[problem] for found in rates.values())}) > 1]
    shown = sorted(different, key=short_hash)[: MOST_ANSWERED // len(files)]  # drawn by their hashes
    questions, answers = _answers(files, tables, shown)
    return {
        "benchmark": benchmark,
        "models": list(files),
        "num_common": len(common),
        "num_different": len(different),
        "transitions": _transitions(rates, common),
        "problems": [
            {
                "problem_id": problem,
                **questions[problem],
                "answers": {
                    model: {"right": rates[model][problem][0], "of": rates[model][problem][1], "samples": answers[model].get(problem, [])}
                    for model in files
                },
            }
            for problem in sorted(shown)
        ],
    }


def _rates(table: pa.Table) -> dict[str, tuple[int, int]]:
    """problem_id -> samples that are right, samples."""
    right = pc.cast(pc.fill_null(table["correct"], False), pa.int32())
    table = pa.table({"problem_id": table["problem_id"], "right": right})
    grouped = table.group_by("problem_id").aggregate([("right", "sum"), ("right", "count")])
    columns = (grouped[name].to_pylist() for name in ("problem_id", "right_sum", "right_count"))
    return {problem: (right, total) for problem, right, total in zip(*columns, strict=True)}


def _transitions(rates: Mapping[str, Mapping[str, tuple[int, int]]], common: set[str]) -> list[dict[str, Any]]:
    """For pairs of models, how many problems the second one does better, worse and alike."""
    pairs = [pair for pair in combinations(rates, 2) if len(rates) <= FEW_MODELS or pair[0] == next(iter(rates))]
    found = []
    for before, after in pairs:
        shares = [[model[problem][0] / model[problem][1] for model in (rates[before], rates[after])] for problem in common]
        better, worse = (sum(sign * (new - old) > 0 for old, new in shares) for sign in (1, -1))
        found.append({"before": before, "after": after, "better": better, "worse": worse, "alike": len(common) - better - worse})
    return found


def _answers(
    files: Mapping[str, Path], tables: Mapping[str, pa.Table], problems: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[dict[str, Any]]]]]:
    """The question and reference of each problem; for each model, the answers to show by problem."""
    questions: dict[str, dict[str, Any]] = {}
    answers: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for model, file in files.items():
        by_problem: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in _rows(file, tables[model], problems):
            questions.setdefault(row["problem_id"], _texts(row, ("question", "reference_answer")))
            by_problem[row["problem_id"]].append(_texts(row, ("sample_index", "correct", *_SHOWN)))
        answers[model] = by_problem
    return questions, answers


def _rows(file: Path, table: pa.Table, problems: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One right and one wrong answer to each of the problems."""
    wanted = table.append_column("row", pa.array(range(len(table)))).filter(pc.is_in(table["problem_id"], pa.array(problems, pa.string())))
    firsts = wanted.group_by(["problem_id", "correct"]).aggregate([("row", "min")])["row_min"]
    yield from read_rows([file], sorted(firsts.to_pylist()), ("question", "reference_answer", *_SMALL, *_SHOWN))


def _texts(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What there is of a row; long texts are cut."""
    found = {name: row[name] for name in names if row.get(name) is not None}
    return {name: cut_text(value) if isinstance(value, str) else value for name, value in found.items()}
