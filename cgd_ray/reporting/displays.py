"""What the progress bars of a run say beside their counts.

How to use: `generation_display(bar, api, spending)` is `generate`'s callback; `TrainingDisplay(screen, bar)` has `train`'s callbacks,
`show_live_step(bar, step, num_records)` is `run_live`'s, `show_evaluation(bar, counts, estimate)` an `Exam`'s.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgd_ray.config import ApiConfig
from cgd_ray.engines.api.spending import Account
from cgd_ray.generation.progress import FAILED_BECAUSE, REPETITIVE, ROWS, ROWS_MADE, TOKENS_MADE, UNFINISHED, UNUSABLE, ProgressFn
from cgd_ray.process.console import Bar, Screen
from cgd_ray.training.observe.measurements import Measurement

MOST_REASONS, REASON_WIDTH = 3, 80  # of failures beside a bar


def show_generation(bar: Bar, counts: Mapping[str, int], paid: str = "") -> None:
    """Draw the counts of a generation, and what an endpoint was paid for it."""
    if not any(counts.get(name) for name in ("attempts", "failed", "tokens_per_s")):
        bar.update(0, "engines are starting")
        return
    note = f"{counts['attempts']:,} attempts, {counts['critiques']:,} critiques, {counts['tokens_per_s']:,} tokens/s"
    cut = f", {counts[UNUSABLE]:,} cut or empty" if counts[UNUSABLE] else ""
    note += (f", {paid}" if paid else "") + cut + _repetitions(counts) + _failures(counts)
    bar.update(counts[f"teacher{ROWS}"], note, remaining_s(counts, ("student", "teacher"), bar.total))


def generation_display(bar: Bar, api: ApiConfig | None, spending: Path) -> ProgressFn:
    """Draws the counts of a generation with what its endpoint has been paid so far, by the journal in `spending`."""
    account = Account(spending)

    def show(counts: dict[str, int]) -> None:
        cost = None if api is None else account.spending().cost(api)
        show_generation(bar, counts, "" if api is None or cost is None else f"{cost:,.2f} {api.currency}")

    return show


def show_evaluation(bar: Bar, counts: Mapping[str, int], estimate: str = "") -> None:
    """Draw the counts of a model that answers an evaluation's problems, and how it does so far."""
    note = f"{counts['tokens_per_s']:,} tokens/s" + (f", {estimate}" if estimate else "")
    bar.update(counts[f"student{ROWS}"], note + _repetitions(counts) + _failures(counts), remaining_s(counts, ("student",), bar.total))


def remaining_s(counts: Mapping[str, int], roles: Sequence[str], num_rows: int) -> float | None:
    """How long it takes at the speed of the last seconds until the roles have made so many rows, each as long as those made so far.

    What is written already of unfinished answers counts. None before each role has made a row, or while nothing is written.
    """
    rows = {role: counts.get(role + ROWS_MADE, 0) for role in roles}
    if not all(rows.values()) or not counts["tokens_per_s"]:
        return None
    expected = sum((num_rows - counts[role + ROWS]) * counts.get(role + TOKENS_MADE, 0) / made for role, made in rows.items())
    return max(0.0, expected - counts.get(UNFINISHED, 0)) / counts["tokens_per_s"]


def _repetitions(counts: Mapping[str, int]) -> str:
    """How many generations were ended since they repeated themselves."""
    return f", {counts[REPETITIVE]:,} repeating themselves" if counts.get(REPETITIVE) else ""


def _failures(counts: Mapping[str, int]) -> str:
    """How many rows failed, and most often of what."""
    if not counts["failed"]:
        return ""
    reasons = Counter({name.removeprefix(FAILED_BECAUSE): count for name, count in counts.items() if name.startswith(FAILED_BECAUSE)})
    often = "; ".join(f"{count:,}: {reason[:REASON_WIDTH]}" for reason, count in reasons.most_common(MOST_REASONS))
    return f", {counts['failed']:,} failed ({often})"


def show_live_step(bar: Bar, step: Mapping[str, float], num_records: int) -> None:
    """Draw a step's metrics on a bar of records, since the number of steps is not known yet."""
    bar.update(round(step["train/epoch"] * num_records), f"step {step['train/step']:.0f}, {_training_note(step)}")


def _training_note(step: Mapping[str, float]) -> str:
    return f"loss {step['train/loss']:.3f}, gradient norm {step['train/grad_norm']:.2f}, {step['train/tokens_per_s']:,.0f} tokens/s"


class TrainingDisplay:
    """The bar of a training: its newest step, and what the newest of the answering checkpoints came to."""

    def __init__(self, screen: Screen, bar: Bar) -> None:
        self._screen, self._bar = screen, bar
        self._answers = ""

    def show_step(self, step: Mapping[str, float]) -> None:
        """Draw a step's metrics."""
        self._bar.update(int(step["train/step"]), _training_note(step) + self._answers)

    def show_measurement(self, line: Measurement) -> None:
        """Keep a checkpoint's pass@1 for the bar, or say why there is none."""
        if "problem" in line:
            self._screen.say(f"warning: pass@1 after step {line['step']} could not be measured, the training goes on: {line['problem']}")
        else:
            self._answers = f", pass@1 {line['pass@1']:.1%} after step {line['step']}"
