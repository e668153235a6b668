"""Advisories on what the models write: rows that fail, answers that are cut or lose their box, verdicts, leaks.

All are functions of counts alone. How to use: `advise_on_records(windows, config, prompts)`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cgd_ray.config import Config
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import TURNS, TURNS_OF_ROLE, Turn
from cgd_ray.process.advisory import Advisory
from cgd_ray.reporting.health.figures import COPIED_THOUGH_WRONG, Figures
from cgd_ray.reporting.health.shares import has_fallen, is_above

FAILING = 0.01
"""Share of failed rows. Sound runs fail single rows, such as prompts that are longer than the context."""
MOSTLY_LOST = 0.5
"""Share of rows of which nothing can be trained on."""
CUT = 0.05
"""Share of answers that are cut by a limit, none of which is ever learnt; a model that loops now and then cuts 1 or 2 %."""
WITHOUT_BOX = 0.2
"""Share of answers without the box that the prompt asks for; instruct models forget it in some 5 to 10 %."""
BOX_FALL = 0.05
"""Least fall of the share of answers with a box that is worth a word."""
VERDICTS_MISSING = 0.05
"""Share of critiques without a single verdict."""
EMPTY_CRITIQUES = 0.1
"""Share of critiques that say nothing but their verdict; the more there are, the nearer the arm cgd comes to the ablation verdict_only."""
ONE_SIDED = 0.97
"""Share of critiques with one and the same verdict: students that are so good, or so bad, learn little, and a teacher that always says the
same is more likely."""
LEAKS = {
    "refinement_mentions_review": (0.02, "it would surface at inference, where there is no review"),
    COPIED_THOUGH_WRONG: (0.2, "the teacher names a mistake and repeats it, so there is nothing to learn"),
    "answer_in_critique": (0.5, "the refinement may copy it and the student learns to wait for it"),
}
"""Share of records above which a leak is frequent, and what it does. A critique that corrects the last step says what comes out."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The counts of the records that the advisories compare."""

    early: Figures
    """The first ones."""
    newest: Figures
    """The newest ones, of a short run with the first among them."""
    later: Figures
    """The newest ones without the first."""


def advise_on_records(windows: Windows, config: Config | None, prompts: Prompts) -> list[Advisory]:
    """What is wrong with the newest records; of the settings only what to change where they are not known."""
    newest = windows.newest
    return [
        *_failing(newest, 0.05 if config is None else config.generation.max_failed_fraction),
        *(found for turn in TURNS for found in _cut(newest, turn, config)),
        *(found for turn in TURNS for found in _repetitive(newest, turn, config)),
        *(found for turn in ("attempt", "refinement") for found in _unboxed(windows, turn, prompts)),
        *_verdicts(newest),
        *_leaks(newest),
    ]


def _failing(newest: Figures, most: float) -> Iterator[Advisory]:
    failed = newest.errors.total()
    if not is_above(failed, newest.rows, FAILING):
        return
    reason, count = next(iter(newest.errors.most_common().items()))
    ends = is_above(failed, newest.rows, min(most, MOSTLY_LOST))
    yield Advisory(
        level="error" if ends else "warning",
        title="Rows fail",
        detail=f"{_share(failed, newest.rows)} rows failed; the run ends when more than {most:.1%} of all have (generation."
        f"max_failed_fraction). Most often ({count:,} times): {reason}. Stop the run and mend the cause; --retry-failed makes them again.",
    )


def _cut(newest: Figures, turn: Turn, config: Config | None) -> Iterator[Advisory]:
    cut, made = newest.cut[turn], newest.made[turn]
    if not is_above(cut, made, CUT):
        return
    role, is_used = _whose(turn, config)
    is_context = 2 * newest.cut_by_context[turn] > cut
    setting = f"{role}.context_length" if is_context else f"{role}.sampling.max_tokens"
    value = "" if config is None else f" {_limit(config, role, is_context):,}"
    yield Advisory(
        level="error" if is_above(cut, made, MOSTLY_LOST) and not is_used else "warning",
        title=f"{_plural(turn).capitalize()} reach their length limit",
        detail=f"{_share(cut, made)} {_plural(turn)} were cut, most by {setting}{value}; {_fate(is_used)}. Raise it in "
        f"another run_dir (generation.reuse keeps what stays the same), or look whether the model repeats itself.",
    )


def _repetitive(newest: Figures, turn: Turn, config: Config | None) -> Iterator[Advisory]:
    repetitive, made = newest.repetitive[turn], newest.made[turn]
    if not is_above(repetitive, made, CUT):
        return
    role, is_used = _whose(turn, config)
    yield Advisory(
        level="error" if is_above(repetitive, made, MOSTLY_LOST) and not is_used else "warning",
        title=f"{_plural(turn).capitalize()} repeat themselves",
        detail=f"{_share(repetitive, made)} {_plural(turn)} were ended since they repeat themselves; {_fate(is_used)}. In another run_dir "
        f"raise {role}.sampling.temperature or repetition_penalty, or stop_repetition where what is repeated is meant.",
    )


def _whose(turn: Turn, config: Config | None) -> tuple[str, bool]:
    """The role that takes a turn, and whether one that was cut is used all the same."""
    if turn in TURNS_OF_ROLE["teacher"]:
        return "teacher", False
    return "student", config is None or config.selection.cut_attempts == "use"


def _fate(is_used: bool) -> str:
    return "they are criticised as far as they go (selection.cut_attempts)" if is_used else "none of these rows is trained on"


def _limit(config: Config, role: str, is_context: bool) -> int:
    settings = config.student if role == "student" else config.teacher
    return settings.context_length if is_context else settings.sampling.max_tokens


def _unboxed(windows: Windows, turn: Turn, prompts: Prompts) -> Iterator[Advisory]:
    early, later, newest = windows.early, windows.later, windows.newest
    template = "solve" if turn == "attempt" else "refine"
    before, now = ((figures.boxed[turn], figures.whole(turn)) for figures in (early, later))
    if has_fallen(before, now, BOX_FALL):
        yield Advisory(
            level="warning",
            title=f"Fewer {_plural(turn)} have a box",
            detail=f"{_plural(turn)} with a boxed answer: {now[0] / now[1]:.1%} of the newest {now[1]:,}, {before[0] / before[1]:.1%} of "
            f"the first {before[1]:,}. The problems have become others, or the endpoint serves another model: read the newest records.",
        )
    whole = newest.whole(turn)
    if "\\boxed" in getattr(prompts, template) and is_above(whole - newest.boxed[turn], whole, WITHOUT_BOX):
        yield Advisory(
            level="warning",
            title=f"{_plural(turn).capitalize()} lack the box",
            detail=f"{_share(whole - newest.boxed[turn], whole)} {_plural(turn)} hold no boxed answer though the template {template} asks "
            f"for one; they cannot be graded. Change the template, by a file or another set that `prompts` names.",
        )


def _verdicts(newest: Figures) -> Iterator[Advisory]:
    total, missing = newest.verdicts.total(), newest.verdicts["missing"]
    if is_above(missing, total, VERDICTS_MISSING):
        yield Advisory(
            level="warning",
            title="Critiques have no verdict",
            detail=f"{_share(missing, total)} critiques end without a single 'Conclusion: right' or 'Conclusion: wrong'. Set "
            "generation.structured_verdict=true, or change the template critique.",
        )
    if is_above(newest.empty_critiques, total, EMPTY_CRITIQUES):
        yield Advisory(
            level="warning",
            title="Critiques say nothing",
            detail=f"{_share(newest.empty_critiques, total)} critiques are empty, or nothing but a conclusion, so nothing is learnt "
            "from them. Change the template critique (a set that `prompts` names, such as small, shows an example), or the teacher.",
        )
    for verdict in ("right", "wrong"):
        if is_above(newest.verdicts[verdict], total - missing, ONE_SIDED):
            yield Advisory(
                level="warning",
                title=f"Nearly all verdicts are {verdict}",
                detail=f"{_share(newest.verdicts[verdict], total - missing)} verdicts are {verdict}. Where the student's pass@1 is not so, "
                "the teacher does not judge: change the template critique or the teacher. Else take "
                f"{'harder' if verdict == 'right' else 'easier'} problems, or another student.",
            )


def _leaks(newest: Figures) -> Iterator[Advisory]:
    for leak, (threshold, harm) in LEAKS.items():
        total, what = newest.searched, "records"
        if leak == COPIED_THOUGH_WRONG:
            total, what = newest.searched_wrong, "records with this verdict"
        if is_above(newest.leaks[leak], total, threshold):
            name = leak.partition(" ")[0]
            yield Advisory(
                level="warning",
                title=f"Leaks are frequent: {leak.replace('_', ' ')}",
                detail=f"{_share(newest.leaks[leak], total)} {what} have it: {harm}. selection.drop_leaks=[{name}] leaves them out; other "
                "words in the templates critique and refine may prevent them.",
            )


def _share(count: int, total: int) -> str:
    return f"{count:,} of the newest {total:,} ({count / total:.1%})"


def _plural(turn: Turn) -> str:
    return f"{turn}s"
