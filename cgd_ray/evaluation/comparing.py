"""Two finished evaluations on the same problems: how far apart, how sure that is, and which problems flip.

They may be of other tools (interchange/). What was asked otherwise, decoded otherwise or graded otherwise is refused, since the difference
would not be the models'; what a tool has not recorded is said and taken on trust.
How to use: `compare_evals(Path("RUN/evaluation/base"), Path("RUN/evaluation/trained"), say)`; `compare_evaluations(a, b)` for a report.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cgd_ray.config import differing_settings
from cgd_ray.evaluation.interchange.finding import find_evaluations
from cgd_ray.evaluation.interchange.neutral import GRADER, NUM_SAMPLES, PROMPT, SAMPLING, Evaluation
from cgd_ray.evaluation.interchange.pairing import Scores, paired, scores_of
from cgd_ray.evaluation.statistics.paired import compare_paired

CONFIDENCE = 0.95
DRAWS = (f"{SAMPLING}.seed", f"{SAMPLING}.seed_per_request")
"""Settings that decide which answer is drawn, not which are likely."""
MOST_SHOWN = 8
"""Problems that are named in a line."""
VALUE_WIDTH = 60
"""Characters of a setting in a line."""


def compare_evals(path_a: Path, path_b: Path, say: Callable[[str], None]) -> int:
    """Compare what lies at two paths, benchmark by benchmark, and say it line by line; the exit code.

    Raises ValueError, one line, for what is no evaluation, has no benchmark or problem in common, or was not evaluated alike.
    """
    pairs = _same_benchmarks(path_a, find_evaluations(path_a), path_b, find_evaluations(path_b))
    compared = [compare_evaluations(a, b) for a, b in pairs]
    for name, key in (("A", "a"), ("B", "b")):
        say(_plain(f"{name}: {compared[0][key]['model']} ({(path_a, path_b)[key == 'b']}, {compared[0][key]['source']})"))
    for line in _aligned(table_rows(compared)):
        say(line)
    for comparison in compared:
        for line in _notes(comparison):
            say(_plain(line))
    return 0


def compare_evaluations(a: Evaluation, b: Evaluation) -> dict[str, Any]:
    """What the answers to the common problems say, as JSON; differences are B's accuracy minus A's.

    Raises ValueError, one line, where they were not evaluated alike or have no problem in common.
    """
    unrecorded = _check_alike(a, b)
    scores_a, scores_b = scores_of(a), scores_of(b)
    pairs = paired(scores_a, scores_b)
    _check_pairs(a, b, pairs)
    found = compare_paired({of_a.id: of_a.correct for of_a, _ in pairs}, {of_a.id: of_b.correct for of_a, of_b in pairs}, CONFIDENCE)
    return {
        "benchmark": a.benchmark,
        "a": _side(a, found.first, [of_a for of_a, _ in pairs], len(scores_a)),
        "b": _side(b, found.second, [of_b for _, of_b in pairs], len(scores_b)),
        "num_problems": found.num_problems,
        "num_samples": len(pairs[0][0].correct),
        "difference": found.difference,
        "interval": [found.interval.low, found.interval.high],
        "interval_kind": found.interval.kind,
        "confidence": CONFIDENCE,
        "p_value": found.p_value,
        "test": found.test,
        "gained": [_flip(of_a, of_b) for of_a, of_b in pairs if of_b.rate > of_a.rate],
        "lost": [_flip(of_a, of_b) for of_a, of_b in pairs if of_b.rate < of_a.rate],
        "settings_not_recorded": unrecorded,
    }


def table_rows(compared: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """A row for each benchmark."""
    return [
        {
            "benchmark": _plain(found["benchmark"]),
            "problems": f"{found['num_problems']:,}",
            "A": f"{found['a']['accuracy']:.1%}",
            "B": f"{found['b']['accuracy']:.1%}",
            "B - A, points": f"{found['difference'] * 100:+.1f}",
            f"{found['confidence']:.0%} interval": f"{found['interval'][0] * 100:+.1f} to {found['interval'][1] * 100:+.1f}",
            "p": f"{found['p_value']:.2g}",
            "B better": f"{len(found['gained']):,}",
            "A better": f"{len(found['lost']):,}",
        }
        for found in compared
    ]


def _same_benchmarks(
    path_a: Path, found_a: Sequence[Evaluation], path_b: Path, found_b: Sequence[Evaluation]
) -> list[tuple[Evaluation, Evaluation]]:
    """Evaluations of one benchmark; two single ones are of one whatever their tools call it, if their problems are the same."""
    if len(found_a) == len(found_b) == 1:
        return [(found_a[0], found_b[0])]
    by_name = {evaluation.benchmark: evaluation for evaluation in found_b}
    if pairs := [(evaluation, by_name[evaluation.benchmark]) for evaluation in found_a if evaluation.benchmark in by_name]:
        return pairs
    names_a, names_b = (_plain(", ".join(evaluation.benchmark for evaluation in found)) for found in (found_a, found_b))
    raise ValueError(f"{path_a} has {names_a} and {path_b} has {names_b}; evaluate both on one benchmark")


def _check_alike(a: Evaluation, b: Evaluation) -> list[str]:
    """Raise ValueError where a setting differs that decides answers or grades; what one of the two has not recorded."""
    if a.words != b.words:
        raise ValueError(
            f"{a.path} was evaluated with {a.words} and {b.path} with {b.words}, which ask and grade differently; evaluate both with one"
        )
    unrecorded = []
    for group in (PROMPT, SAMPLING, GRADER, NUM_SAMPLES):
        of_a, of_b = a.settings.get(group), b.settings.get(group)
        if of_a is None or of_b is None:
            unrecorded.append(group)
            continue
        for key, value_a, value_b in differing_settings({group: of_a}, {group: of_b}):
            if key not in DRAWS:
                shown_a, shown_b = _around_difference(repr(value_a), repr(value_b))
                raise ValueError(f"{key} is {shown_a} in {a.path} and {shown_b} in {b.path}; evaluate both alike to compare them")
    return unrecorded


def _check_pairs(a: Evaluation, b: Evaluation, pairs: Sequence[tuple[Scores, Scores]]) -> None:
    if not pairs:
        raise ValueError(f"{a.path} and {b.path} have no problem in common, by id or by question; evaluate both on the same ones")
    for of_a, of_b in pairs:
        if len(of_a.correct) != len(of_b.correct):
            raise ValueError(
                f"{NUM_SAMPLES} is {len(of_a.correct)} in {a.path} and {len(of_b.correct)} in {b.path}; evaluate both alike to compare them"
            )
        if None not in (of_a.reference_hash, of_b.reference_hash) and of_a.reference_hash != of_b.reference_hash:
            shown_a, shown_b = _around_difference(repr(of_a.reference_answer), repr(of_b.reference_answer))
            raise ValueError(
                f"the reference answer of problem {of_a.id[:80]!r} is {shown_a} in {a.path} and {shown_b} in {b.path}; "
                "evaluate both on one revision of the benchmark"
            )


def _side(evaluation: Evaluation, accuracy: float, scores: Sequence[Scores], num_problems: int) -> dict[str, Any]:
    return {
        "source": evaluation.source,
        "path": str(evaluation.path),
        "model": evaluation.model,
        "accuracy": accuracy,
        "num_ungraded": sum(found.num_ungraded for found in scores),
        "not_in_common": num_problems - len(scores),
    }


def _flip(of_a: Scores, of_b: Scores) -> dict[str, Any]:
    """A problem that one of the two answers better, with what each took for its answers."""
    return {
        "problem_id": of_a.id,
        "problem_id_b": of_b.id,
        "question": of_a.question or of_b.question,
        "reference_answer": of_a.reference_answer or of_b.reference_answer,
        "a": {"correct": list(of_a.correct), "extracted": list(of_a.extracted)},
        "b": {"correct": list(of_b.correct), "extracted": list(of_b.extracted)},
    }


def _notes(compared: Mapping[str, Any]) -> Iterator[str]:
    """What a table has no room for."""
    benchmark = compared["benchmark"]
    for key, who in (("gained", "B"), ("lost", "A")):
        if flips := compared[key]:
            more = f" and {len(flips) - MOST_SHOWN:,} more" if len(flips) > MOST_SHOWN else ""
            named = ", ".join(flip["problem_id"][:80] for flip in flips[:MOST_SHOWN])
            yield f"{benchmark}, {who} answers better: {named}{more}"
    for key in ("a", "b"):
        side = compared[key]
        if side["num_ungraded"]:
            yield f"{benchmark}: not graded, and counted as wrong, of {key.upper()}'s answers: {side['num_ungraded']:,}"
        if side["not_in_common"]:
            yield f"{benchmark}: not in the other evaluation, and left out, of {key.upper()}'s problems: {side['not_in_common']:,}"
    if compared["settings_not_recorded"]:
        yield f"{benchmark}: not recorded in both, and taken to be alike: {', '.join(compared['settings_not_recorded'])}"


def _around_difference(first: str, second: str) -> tuple[str, str]:
    """The two texts from shortly before the place where they part, cut to a width: a prompt may differ in its last word only."""
    same = next(
        (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other), min(len(first), len(second))
    )
    start = max(0, same - VALUE_WIDTH // 2) if max(len(first), len(second)) > VALUE_WIDTH else 0
    cut = [f"{'…' * (start > 0)}{text[start:][:VALUE_WIDTH]}{'…' * (len(text) > start + VALUE_WIDTH)}" for text in (first, second)]
    return cut[0], cut[1]


def _aligned(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """A header and the rows, in columns."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def _plain(text: str) -> str:
    """Names from files that others wrote: nothing in them may steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
