"""Advisories on the evaluation: what training has done to the form of answers, whatever it did to the accuracy.

How to use: `advise_on_evaluation({"base": {benchmark: report}, "trained": {...}})`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from cgd_ray.process.advisory import Advisory
from cgd_ray.reporting.health.shares import has_fallen, is_above

Report = Mapping[str, Any]
"""report.json of one model and benchmark."""

LEAST_DRIFT = 0.05
"""Least growth of a share after training that is worth a word."""
CUT = 0.2
"""Share of cut answers above which a model is not measured, but its limit."""
UNBOXED = 0.2
"""Share of answers without a box above which strict accuracy measures the format."""
FAULTS = {
    "truncated": ("are cut by their limit", "raise evaluation.sampling.max_tokens, or look whether the student repeats itself"),
    "unboxed": ("hold no boxed answer", "the student has drifted from the format: compare its answers with those before"),
    "failed": ("failed", "look at the reasons in graded.parquet"),
}
"""A fraction in a report, what it counts, and what to do where it grew."""


def advise_on_evaluation(evaluated: Mapping[str, Mapping[str, Report]]) -> list[Advisory]:
    """What is wrong with the answers; samples of one problem are alike, so each problem counts once."""
    base, trained = evaluated.get("base", {}), evaluated.get("trained", {})
    return [
        *(found for benchmark in base.keys() & trained.keys() for found in _drift(benchmark, base[benchmark], trained[benchmark])),
        *(
            found
            for name, reports in evaluated.items()
            for benchmark, report in reports.items()
            for found in (*_cut(name, benchmark, report), *unboxed(name, benchmark, report))
        ),
    ]


def unboxed(name: str, benchmark: str, report: Report) -> Iterator[Advisory]:
    """What to do about a model that does not box its answers, where the grader looks for boxes; older reports do not say."""
    strict, lenient = report.get("strict"), report.get("lenient")
    if strict is None or report["unboxed"] <= UNBOXED:
        return
    read = (
        f"read the lenient accuracy, {lenient['avg@k']:.1%} beside {strict['avg@k']:.1%} by boxes alone"
        if lenient is not None
        else f"take a grader that reads more than boxes, such as boxed-math: the accuracy is {strict['avg@k']:.1%} by boxes alone"
    )
    cut = f" ({report['truncated']:.1%} are cut)" if report["truncated"] else ""
    yield Advisory(
        level="warning",
        title=f"{benchmark}: answers of the {name} student have no box",
        detail=f"{report['unboxed']:.1%} of the answers to {report['num_problems']:,} problems hold no box; set prompts to the set for "
        f"this model's family (small, qwen, llama3), raise evaluation.sampling.max_tokens where answers are cut{cut}, or {read}.",
    )


def _drift(benchmark: str, base: Report, trained: Report) -> Iterator[Advisory]:
    for fault, (what, remedy) in FAULTS.items():
        sound = [(_count(report, 1 - report[fault]), report["num_problems"]) for report in (base, trained)]
        if has_fallen(sound[0], sound[1], LEAST_DRIFT):
            yield Advisory(
                level="warning",
                title=f"{benchmark}: more answers {what} after training",
                detail=f"{trained[fault]:.1%} of the trained student's answers {what}, {base[fault]:.1%} before, of "
                f"{trained['num_problems']:,} problems: {remedy}.",
            )


def _cut(name: str, benchmark: str, report: Report) -> Iterator[Advisory]:
    if is_above(_count(report, report["truncated"]), report["num_problems"], CUT):
        yield Advisory(
            level="warning",
            title=f"{benchmark}: answers of the {name} student reach their limit",
            detail=f"{report['truncated']:.1%} of the answers to {report['num_problems']:,} problems are cut and count as wrong; raise "
            "evaluation.sampling.max_tokens, or the accuracy is that of short answers alone.",
        )


def _count(report: Report, share: float) -> int:
    return round(share * int(report["num_problems"]))
