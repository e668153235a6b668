"""How the answers of a student have changed by its training, and what of that is worth a warning.

CFT is known to drift: its student learns to write critiques where answers are wanted, and loses 20 points of IFEval with them (arXiv
2505.11628). CGD is meant not to. Whether a run keeps that promise is seen here: answers without a box, answers that speak of a critique,
answers that grow, shrink or run in circles.

Thinking students are a case of their own. Targets are written by a teacher that knew the attempt and its own critique, so they hold no
search and no doubt, and thoughts are no part of them. Learning from such privileged contexts costs thinking models up to 17 % of their
avg@16, the more the longer they think, while it helps others (arXiv 2607.05184); their reflection goes first (arXiv 2607.02234,
2603.24472: shorter answers that are up to 40 % worse).
How to use: `compare_drift(drift_of(rows_of_base), drift_of(rows_of_trained))`, rows as in graded.parquet, on the same problems.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import sqrt
from typing import Any

import numpy as np

from cgd_ray.evaluation.diagnostics.style import Style, style_of
from cgd_ray.process.advisory import Advisory

Drift = dict[str, Any]

THINKING_SHARE = 0.1
"""Of a student's answers that have thoughts, from which it counts as one that thinks: hybrid models think now and then."""
NOISE = 2.0
"""Standard errors that a difference of two shares must exceed, taken as of independent answers; as they are of the same problems, the
real error is smaller, so that what is told is rarely noise."""
SHARE_POINTS = 0.05
"""Rise of the share of unboxed or truncated answers from which it is told: nearly all of them are graded wrong, and 5 points of accuracy
are as much as is hoped for from a better method."""
RARE_POINTS = 0.01
"""Rise of the share of answers that mention the review or run in circles: the untrained student hardly has any, and readers see each."""
LENGTH_FACTOR = 1.5
"""By which the median length must have grown or shrunk: a change of the whole style, which a few long answers do not make in a median."""
REFLECTION_FALL = 1 / 3
"""Of the reflection words per 1,000 words that a thinking student must have lost."""
FEWEST_REFLECTIONS = 20
"""Of the untrained student, fewer of which say nothing: a count of 20 is known to within about 22 %."""

SHARES = {
    "unboxed": (SHARE_POINTS, "Answers lose their box", "have no boxed answer, so they are graded wrong whatever they say"),
    "truncated": (SHARE_POINTS, "Answers reach the length limit", "were cut by evaluation.sampling.max_tokens"),
    "mentions_review": (RARE_POINTS, "Answers speak of the review", "speak of a student, an attempt or a critique that is not there"),
    "looping": (RARE_POINTS, "Answers run in circles", "repeat the same words again and again"),
}
"""Shares that had better not rise: the rise that is told, the title and what it means."""


def drift_of(rows: Iterable[Mapping[str, Any]]) -> Drift:
    """Shares and lengths over the answers of one model; answers that failed are counted and left out. Rows are looked at one by one."""
    styles, num_failed = list[Style](), 0
    for row in rows:
        if row["error"] is not None:
            num_failed += 1
        else:
            styles.append(style_of(row))
    if not styles:
        return {"answers": 0, "failed": num_failed}
    tokens = np.array([style.num_tokens for style in styles])
    distinct = [style.distinct for style in styles if style.distinct is not None]
    num_words, num_reflections = (sum(getattr(style, name) for style in styles) for name in ("num_words", "num_reflections"))
    return {
        "answers": len(styles),
        "failed": num_failed,
        "boxed": _share(styles, "is_boxed"),
        "unboxed": 1 - _share(styles, "is_boxed"),
        "truncated": _share(styles, "is_truncated"),
        "mentions_review": _share(styles, "mentions_review"),
        "looping": _share(styles, "has_loop"),
        "thinking": _share(styles, "thinks"),
        "distinct_4": float(np.mean(distinct)) if distinct else None,
        "tokens": {"mean": float(tokens.mean()), "median": float(np.median(tokens)), "p95": float(np.percentile(tokens, 95))},
        "reflections": num_reflections,
        "reflections_per_1000_words": 1000 * num_reflections / num_words if num_words else 0.0,
    }


def compare_drift(base: Drift, trained: Drift) -> dict[str, Any]:
    """{"base", "trained", "advisories": [{"level", "title", "detail"}]} of the same problems answered before and after a training."""
    if not base["answers"] or not trained["answers"]:
        return {"base": base, "trained": trained, "advisories": []}
    found = [*_risen_shares(base, trained), *_lengths(base, trained), *_thinking(base, trained)]
    return {"base": base, "trained": trained, "advisories": [asdict(advisory) for advisory in found]}


def thinking_student(share: float) -> list[Advisory]:
    """What to say, before anything is trained or evaluated, of a student of whose attempts this share has thoughts."""
    if share < THINKING_SHARE:
        return []
    detail = (
        f"{share:.0%} of its attempts have thoughts, of which the targets have none. Privileged contexts are known to cost such students "
        f"accuracy on hard problems with long budgets (arXiv 2607.05184). {THINKING_REMEDY}"
    )
    return [Advisory(level="warning", title="The student thinks before it answers", detail=detail)]


def thinks(drift: Drift) -> bool:
    """Whether these are answers of a student that thinks first."""
    return bool(drift.get("thinking", 0.0) >= THINKING_SHARE)


def _share(styles: list[Style], name: str) -> float:
    return float(np.mean([getattr(style, name) for style in styles]))


def _risen_shares(base: Drift, trained: Drift) -> Iterable[Advisory]:
    for name, (points, title, meaning) in SHARES.items():
        before, after = base[name], trained[name]
        error = sqrt(sum(share * (1 - share) / drift["answers"] for share, drift in ((before, base), (after, trained))))
        if after - before >= points and after - before > NOISE * error:
            detail = f"{after:.1%} of the trained student's answers {meaning}; of the untrained student's {before:.1%} did. {REMEDY}"
            yield Advisory(level="warning", title=title, detail=detail)


def _lengths(base: Drift, trained: Drift) -> Iterable[Advisory]:
    before, after = base["tokens"]["median"], trained["tokens"]["median"]
    if thinks(base) and after * LENGTH_FACTOR < before:
        return  # said below, as what it is there
    if not before / LENGTH_FACTOR <= after <= before * LENGTH_FACTOR:
        title = "Answers have become longer" if after > before else "Answers have become shorter"
        detail = f"The median answer has {after:,.0f} tokens, before the training {before:,.0f}; the teacher's style may be the reason."
        yield Advisory(level="note", title=title, detail=detail)


def _thinking(base: Drift, trained: Drift) -> Iterable[Advisory]:
    """What is known to go wrong with students that think."""
    if not thinks(base):
        return
    if lost := list(_lost(base, trained)):
        detail = (
            f"{'; '.join(lost)}. Training on what a teacher wrote that knew more than the student does this to thinking models, which "
            f"costs them accuracy on hard problems with long budgets (arXiv 2607.05184, 2607.02234). {THINKING_REMEDY}"
        )
        yield Advisory(level="warning", title="A thinking student reflects less than before", detail=detail)


def _lost(base: Drift, trained: Drift) -> Iterable[str]:
    """What of its thinking a student has lost."""
    before, after = (drift["reflections_per_1000_words"] for drift in (base, trained))
    if base["reflections"] >= FEWEST_REFLECTIONS and after < (1 - REFLECTION_FALL) * before:
        yield f"{before:.1f} → {after:.1f} reflection words per 1,000"
    before, after = (drift["tokens"]["median"] for drift in (base, trained))
    if after * LENGTH_FACTOR < before:
        yield f"a median of {before:,.0f} → {after:,.0f} tokens"
    if not thinks(trained):
        yield f"{base['thinking']:.0%} → {trained['thinking']:.0%} of the answers with thoughts"


REMEDY = "Look at some of them, then at the targets: `cgd inspect`."
THINKING_REMEDY = "Train a student that does not think, or a lower learning_rate, and compare avg@k on hard problems before and after."
