"""What `cgd diagnose` has found, for the page: what critiques explain, how good the teacher was, how the answers' form has drifted.

Read from RUN/diagnostics/{nll,conditioned,verdicts,drift}.json as they are; what was not measured is null or empty, and a run without any
is None.
How to use: `diagnosis(run)`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cgd_ray.data.rundir import RunDir, read_json

MODELS = ("base", "trained")
EXPLAINED = {
    "both_explain": "attempt and critique explain",
    "critique_explains": "the critique explains, beside the attempt",
    "style": "of which another problem's critique explains as much",
    "relevance": "of which this critique alone explains",
}
"""Differences of the losses in two contexts, by one model."""
PARTS = ("style", "relevance")
"""Which of them add up to what the critique explains."""
INTERNALISED = "known from the problem alone since the training"
NOISE = 2.0
"""Standard errors within which a difference shows nothing."""
JUDGED = {
    "precision": "attempts called wrong that are wrong (precision)",
    "recall": "wrong attempts that are called wrong (recall)",
    "accuracy": "verdicts that are right",
    "without_verdict": "critiques without a verdict",
}
SOLVED = {"refinement": "refinements, pass@k", "direct": "direct answers, pass@k", "within_tries": "refinements, within k tries"}
DRIFTED = ("boxed", "truncated", "mentions_review", "looping")

Found = dict[str, Any]


def diagnosis(run: RunDir) -> Found | None:
    """`losses`, `explained`, `conditioned`, `teacher`, `drift` and `advisories` of a run."""
    nll, conditioned, verdicts, drift = (read_json(file) or {} for file in files(run))
    found = {
        "losses": _losses(nll) if nll else None,
        "explained": _explained(nll["groups"]["all"]) if nll else [],
        "conditioned": _conditioned(conditioned) if conditioned else None,
        "teacher": _teacher(verdicts) if verdicts else None,
        "drift": [_drift(name, each) for name, each in drift.get("benchmarks", {}).items()],
        "advisories": list(_advisories(drift)),
    }
    return found if any(found.values()) else None


def files(run: RunDir) -> list[Path]:
    """From which it is made: the losses, the accuracy given a critique, the teacher's numbers, the drift."""
    return [run.diagnostics / f"{name}.json" for name in ("nll", "conditioned", "verdicts", "drift")]


def _losses(nll: Mapping[str, Any]) -> Found:
    """`contexts` with each model's nats per token, and of which records they are."""
    records, group = nll["records"], nll["groups"]["all"]
    return {
        **{name: records[name] for name in ("side", "sampled", "of", "problems")},
        "target_tokens": group["target_tokens"],
        "models": [model for model in MODELS if model in group["nll"]],
        "contexts": [
            {"given": given, **{model: group["nll"].get(model, {}).get(context) for model in MODELS}}
            for context, given in nll["contexts"].items()
        ],
    }


def _explained(group: Mapping[str, Any]) -> list[Found]:
    """`what` in words, whether it is a part of what is above, and by model {mean, standard_error, shows}, null where not measured."""
    by_model = {model: group["differences"].get(model, {}) for model in MODELS}
    rows = [
        {"what": words, "is_part": name in PARTS, **{model: _difference(found.get(name)) for model, found in by_model.items()}}
        for name, words in EXPLAINED.items()
        if any(name in found for found in by_model.values())
    ]
    if "internalised" in group:
        rows.append({"what": INTERNALISED, "is_part": False, "base": None, "trained": _difference(group["internalised"])})
    return rows


def _difference(found: Mapping[str, Any] | None) -> Found | None:
    if found is None:
        return None
    error = found["standard_error"]
    return {**found, "shows": error is not None and abs(found["mean"]) > NOISE * error}


def _conditioned(content: Mapping[str, Any]) -> Found:
    """Accuracies of each student with and without the critique, and what it adds, with its interval over problems."""
    told = ("alone", "given_critique", "difference", "difference_interval", "p")
    students = [{"student": model, **{name: found[name] for name in told}} for model, found in content["students"].items()]
    return {"side": content["side"], "problems": content["problems"], "students": students}


def _teacher(verdicts: Mapping[str, Any]) -> Found | None:
    """`judged`: shares by their names; `solved`: shares of right answers by k; None where no reference answer could tell."""
    found, known = verdicts["verdicts"], verdicts["teacher"]
    solved = [{"what": words, "values": _by_k(known[name])} for name, words in SOLVED.items() if known.get(name)]
    judged = [[words, found[name]] for name, words in JUDGED.items() if found[name] is not None]
    if found["accuracy"] is None and not solved:
        return None
    ks = sorted({int(k) for row in solved for k in row["values"]})
    return {"critiques": verdicts["critiques"], "judged": judged, "k": ks, "solved": solved}


def _by_k(values: Mapping[str, Any]) -> dict[str, float]:
    """pass@k comes with the number of its problems, what tries have done without."""
    return {k: each["value"] if isinstance(each, Mapping) else each for k, each in values.items()}


def _drift(benchmark: str, found: Mapping[str, Any]) -> Found:
    def picked(model: str) -> Found:
        style = found[model]
        return {**{name: style.get(name) for name in DRIFTED}, "median_tokens": style.get("tokens", {}).get("median")}

    return {"benchmark": benchmark, **{model: picked(model) for model in MODELS}}


def _advisories(drift: Mapping[str, Any]) -> Iterator[Found]:
    yield from drift.get("advisories", ())
    for benchmark, found in drift.get("benchmarks", {}).items():
        for advisory in found["advisories"]:
            yield {**advisory, "title": f"{benchmark}: {advisory['title']}"}
