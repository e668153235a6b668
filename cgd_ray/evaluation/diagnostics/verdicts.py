"""How good the teacher was: its verdicts against the reference answers, what its refinements mended and broke, what it solves itself.

A critique that calls a right attempt wrong teaches doubt, one that calls a wrong attempt right teaches the mistake; neither can be seen in
the loss. All counts come from columns that selection has written, so only the teacher's direct answers are graded here.
How to use: `teacher_report(selected_parts(run.selected), max_problems=256, seed=0, grading_timeout_s=5.0)`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.data.fetching import fetch
from cgd_ray.evaluation.statistics.rates import pass_at_k
from cgd_ray.grading.grader import Grader
from cgd_ray.training.examples.choosing.catalogue import MISSING
from cgd_ray.training.examples.choosing.mixture import seeded_order

COLUMNS = (
    "problem_id",
    "error",
    "critique_finish_reason",
    "verdict",
    "attempt_correct",
    "refinement_correct",
    "num_refinements",
    "direct_finish_reason",
)
"""All that is read of every record; about 60 bytes each in memory."""
VERDICTS = ("right", "wrong", MISSING)
TRUTHS = {"right": True, "wrong": False}


def teacher_report(parts: Sequence[Path], *, max_problems: int, seed: int, grading_timeout_s: float) -> dict[str, Any]:
    """What verdicts.json holds, from files of selected records; of direct answers those to so many problems, drawn by seed, are graded."""
    records = pa.concat_tables(_columns(part, number) for number, part in enumerate(parts))
    made = records.filter(pc.and_(pc.is_null(records["error"]), pc.is_valid(records["critique_finish_reason"])))
    return {
        "records": records.num_rows,
        "critiques": made.num_rows,
        "verdicts": verdict_quality(made),
        "repair": {"all": repair_matrix(made), **{name: repair_matrix(_with_verdict(made, name)) for name in VERDICTS}},
        "teacher": {
            "refinement": _refinements(made),
            "within_tries": within_tries(made),
            "direct": _direct_answers(records, parts, max_problems, seed, grading_timeout_s),
        },
    }


def verdict_quality(records: pa.Table) -> dict[str, Any]:
    """The verdicts of critiques (columns verdict and attempt_correct) against what is true of the attempts.

    `counts[truth][verdict]` are those whose truth is known. precision and recall are of "wrong", the verdict that a repair follows;
    recall is of all wrong attempts, also of those whose critique has no verdict. Null: nothing to divide by.
    """
    known = records.filter(pc.is_valid(records["attempt_correct"]))
    counts = {
        truth: {verdict: _count(_with_verdict(known, verdict), "attempt_correct", value) for verdict in VERDICTS}
        for truth, value in TRUTHS.items()
    }
    called_wrong = counts["right"]["wrong"] + counts["wrong"]["wrong"]
    judged = sum(counts[truth][verdict] for truth in TRUTHS for verdict in ("right", "wrong"))
    return {
        "counts": counts,
        "precision": _ratio(counts["wrong"]["wrong"], called_wrong),
        "recall": _ratio(counts["wrong"]["wrong"], sum(counts["wrong"].values())),
        "accuracy": _ratio(counts["right"]["right"] + counts["wrong"]["wrong"], judged),
        "without_verdict": _ratio(_with_verdict(records, MISSING).num_rows, records.num_rows),
        "without_reference": records.num_rows - known.num_rows,
    }


def repair_matrix(records: pa.Table) -> dict[str, int]:
    """How many attempts that were wrong or right became refinements that are right or wrong, where both are known."""
    known = records.filter(pc.is_valid(records["refinement_correct"]))
    return {
        f"{before}_to_{after}": _count(known.filter(pc.equal(known["attempt_correct"], was)), "refinement_correct", becomes)
        for before, was in TRUTHS.items()
        for after, becomes in TRUTHS.items()
    }


def within_tries(records: pa.Table) -> dict[str, float] | None:
    """The share of refinements that came out right within 1, 2, ... tries (generation.refine_attempts), of those that are graded.

    As a try follows only a wrong one, this is pass@k of independent refinements, measured with no more of them than were needed. None
    where nothing was tried twice.
    """
    known = records.filter(pc.is_valid(records["refinement_correct"]))
    tries = pc.fill_null(known["num_refinements"], 1).to_numpy()
    if not len(tries) or tries.max() == 1:
        return None
    right = known["refinement_correct"].to_numpy(zero_copy_only=False).astype(bool)
    return {str(most): float((right & (tries <= most)).mean()) for most in range(1, int(tries.max()) + 1)}


def pass_at_ks(problem_ids: "pa.ChunkedArray | pa.Array[Any]", correct: np.ndarray) -> dict[str, Any] | None:
    """Unbiased pass@k for k = 1, 2, 4, ... over the problems that have so many answers, with the number of these; None without any."""
    if not len(correct):
        return None
    codes = pc.rank(problem_ids, sort_keys="ascending", tiebreaker="dense").to_numpy() - 1
    pairs, weights = np.unique(np.stack([np.bincount(codes), np.bincount(codes, correct).astype(int)]), axis=1, return_counts=True)
    found = {}
    for k in 2 ** np.arange(int(pairs[0].max()).bit_length()):
        enough = pairs[0] >= k
        values = [pass_at_k(int(num), int(right), int(k)) for num, right in pairs[:, enough].T]
        found[str(k)] = {"value": float(np.average(values, weights=weights[enough])), "problems": int(weights[enough].sum())}
    return found


def _columns(part: Path, number: int) -> pa.Table:
    """COLUMNS of one file, and where each row is."""
    file = pq.ParquetFile(part)
    present = [name for name in COLUMNS if name in file.schema_arrow.names]
    table = file.read(columns=present, use_threads=False)
    for name in COLUMNS:
        if name not in present:  # records of a run without direct answers
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    table = table.append_column("file", pa.array(np.full(table.num_rows, number, np.int32)))
    return table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int32)))


def _with_verdict(records: pa.Table, name: str) -> pa.Table:
    return records.filter(pc.is_null(records["verdict"]) if name == MISSING else pc.equal(records["verdict"], name))


def _count(records: pa.Table, column: str, value: bool) -> int:
    return int(pc.sum(pc.equal(records[column], value)).as_py() or 0)


def _ratio(count: int, total: int) -> float | None:
    return count / total if total else None


def _refinements(records: pa.Table) -> Mapping[str, Any] | None:
    """pass@k of refinements, one for each attempt at a problem: k > 1 where generation.num_samples is."""
    known = records.filter(pc.is_valid(records["refinement_correct"]))
    return pass_at_ks(known["problem_id"], known["refinement_correct"].to_numpy(zero_copy_only=False).astype(bool))


def _direct_answers(
    records: pa.Table, parts: Sequence[Path], max_problems: int, seed: int, grading_timeout_s: float
) -> Mapping[str, Any] | None:
    """pass@k of the teacher's answers to the problem alone, where there are some, over a sample of the problems."""
    answered = records.filter(pc.is_valid(records["direct_finish_reason"]))
    names = pc.unique(answered["problem_id"]).to_pylist()
    if not names:
        return None
    drawn = [names[index] for index in seeded_order(names, seed)[:max_problems]]
    chosen = answered.filter(pc.is_in(answered["problem_id"], value_set=pa.array(drawn)))
    texts = fetch(parts, chosen["file"].to_numpy(), chosen["row"].to_numpy(), ["direct", "reference_answer"])
    with Grader(grading_timeout_s) as grader:
        grades = grader.grade(list(zip(texts["direct"].to_pylist(), texts["reference_answer"].to_pylist(), strict=True)))
    is_known = np.array([grade is not None for grade in grades], bool)
    return pass_at_ks(chosen["problem_id"].filter(pa.array(is_known)), np.array([grade for grade in grades if grade is not None], bool))
