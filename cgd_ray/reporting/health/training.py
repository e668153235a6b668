"""Advisories on the training: numbers that are not finite, a loss that rises, gradients that jump, held-out losses that part, lost speed.

All are functions of the lines of metrics.jsonl and validation.jsonl. How to use: `advise_on_training(steps, validated, measurements,
stopped)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import isfinite, sqrt
from statistics import fmean, median, variance
from typing import Any

from cgd_ray.process.advisory import Advisory
from cgd_ray.reporting.health.shares import DEVIATIONS

Step = Mapping[str, float]
"""A line of metrics.jsonl."""

RECENT = 50
"""Steps that are judged, and over which a loss is averaged."""
MOST_STEPS = 1000
"""Newest steps that are looked at."""
LEAST_BEFORE = 20
"""Steps before one that tell what its gradient norm and speed should be like; the first ones of a warm-up are unlike all others."""
NORM_JUMP = 10.0
"""Times the running median. Healthy fine-tunings reach 2 to 4 times now and then, also where the loss is near 0."""
MEDIAN_OVER = 200
"""Steps of the running median."""
LOSS_RISE = 0.1
"""Least rise, as a share of the loss, over the lowest average of RECENT steps."""
HELD_OUT_RISE = 0.02
"""Least rise over the best held-out loss. It is measured on the same examples each time, so it hardly scatters."""
SPEED_LOST = 0.5
"""Share of the usual tokens per second."""
SLOW_STEPS = 10
"""Steps over which the speed must be low; one alone may have been disturbed by a checkpoint."""
WAITS_FOR_DATA = 0.3
"""Share of a step's time that is too much to read rows."""


def advise_on_training(
    steps: Sequence[Step], validated: Sequence[Step], measurements: Sequence[Mapping[str, Any]], stopped: Mapping[str, Any] | None
) -> list[Advisory]:
    """What is wrong with the newest steps.

    `steps` are the newest lines, at most MOST_STEPS, `validated` all lines with a held-out loss, `measurements` those of validation.jsonl,
    `stopped` what the training wrote when its numbers stopped being finite.
    """
    finite = [step for step in steps if isfinite(step["train/loss"]) and isfinite(step["train/grad_norm"])]
    return [
        *_not_finite(steps, stopped),
        *_rising(finite),
        *_jumping(finite),
        *_parting(finite, validated),
        *_slow(finite),
        *_answers(measurements),
    ]


def _not_finite(steps: Sequence[Step], stopped: Mapping[str, Any] | None) -> Iterator[Advisory]:
    remedy = "Lower training.learning_rate or training.max_grad_norm, look at the records that are named, or train in fp32."
    if stopped is not None:
        yield Advisory(level="error", title="The training has stopped: numbers are not finite", detail=f"{stopped['problem']}. {remedy}")
        return
    found = [step for step in steps if not (isfinite(step["train/loss"]) and isfinite(step["train/grad_norm"]))]
    if found:
        last = found[-1]
        yield Advisory(
            level="error",
            title="Loss or gradient norm is not finite",
            detail=f"step {last['train/step']:.0f}: loss {last['train/loss']}, gradient norm {last['train/grad_norm']}. {remedy}",
        )


def _rising(steps: Sequence[Step]) -> Iterator[Advisory]:
    """The average over the newest steps against the lowest such average before, by what single losses scatter."""
    losses = [step["train/loss"] for step in steps]
    windows = [losses[end - RECENT : end] for end in range(len(losses), RECENT - 1, -RECENT)]
    if len(windows) < 2:
        return
    now, best = windows[0], min(windows[1:], key=fmean)
    rise, scatter = fmean(now) - fmean(best), sqrt((variance(now) + variance(best)) / RECENT)
    if rise > DEVIATIONS * scatter and rise > LOSS_RISE * abs(fmean(best)):
        yield Advisory(
            level="warning",
            title="The training loss rises",
            detail=f"{fmean(now):.4g} over {RECENT} steps to step {steps[-1]['train/step']:.0f}, {fmean(best):.4g} at its lowest before. "
            "Lower training.learning_rate or raise training.warmup_fraction; a streamed training may have come to other problems.",
        )


def _jumping(steps: Sequence[Step]) -> Iterator[Advisory]:
    norms = [step["train/grad_norm"] for step in steps]
    for index in range(len(norms) - 1, max(LEAST_BEFORE, len(norms) - RECENT) - 1, -1):
        usual = median(norms[max(0, index - MEDIAN_OVER) : index])
        if norms[index] > NORM_JUMP * usual > 0:
            yield Advisory(
                level="warning",
                title="The gradient norm jumps",
                detail=f"{norms[index]:.3g} at step {steps[index]['train/step']:.0f}, {norms[index] / usual:.0f} times the running "
                f"median {usual:.3g}. Lower training.max_grad_norm to about {2 * usual:.2g}, or training.learning_rate.",
            )
            return


def _parting(steps: Sequence[Step], validated: Sequence[Step]) -> Iterator[Advisory]:
    """Held-out loss has risen at each of the last two measurements while the training loss fell."""
    losses = [step["validation/loss"] for step in validated]
    if len(losses) < 3 or not all(earlier < later for earlier, later in pairwise(losses[-3:])):
        return
    best = min(range(len(losses)), key=losses.__getitem__)
    since = validated[best]["train/step"]
    before, after = ([step["train/loss"] for step in steps if (step["train/step"] <= since) is is_before] for is_before in (True, False))
    if losses[-1] < (1 + HELD_OUT_RISE) * losses[best] or not before or not after or fmean(after[-RECENT:]) >= fmean(before[-RECENT:]):
        return
    yield Advisory(
        level="warning",
        title="Held-out loss and training loss part",
        detail=f"held-out loss {losses[-1]:.4g} after step {validated[-1]['train/step']:.0f}, {losses[best]:.4g} at its best after step "
        f"{since:.0f}, while the training loss fell to {fmean(after[-RECENT:]):.4g}: the student learns the examples by heart. Set "
        "training.export=best, or lower training.num_epochs or training.learning_rate.",
    )


def _slow(steps: Sequence[Step]) -> Iterator[Advisory]:
    newest = steps[-SLOW_STEPS:]
    before = [step for step in steps[:-SLOW_STEPS] if step["train/world_size"] == newest[-1]["train/world_size"]]
    if len(before) < LEAST_BEFORE:
        return
    now, usual = (median(step["train/tokens_per_s"] for step in some) for some in (newest, before))
    if now >= SPEED_LOST * usual:
        return
    waits = sum(step["time/data_s"] for step in newest) / sum(step["time/step_s"] for step in newest)
    cause = (
        f"{waits:.0%} of the time waits for data, so the storage of run_dir is slow"
        if waits > WAITS_FOR_DATA
        else "look for other work on the nodes, throttled accelerators and the network between them"
    )
    yield Advisory(
        level="warning",
        title="The training has become slow",
        detail=f"{now:,.0f} tokens/s over the newest {SLOW_STEPS} steps, {usual:,.0f} before: {cause}.",
    )


def _answers(measurements: Sequence[Mapping[str, Any]]) -> Iterator[Advisory]:
    """Checkpoints that answer held-out problems worse than an earlier one, or that could not be asked."""
    if measurements and "problem" in measurements[-1]:
        yield Advisory(
            level="warning",
            title="Held-out pass@1 cannot be measured",
            detail=f"after step {measurements[-1]['step']}: {measurements[-1]['problem']}. The training goes on without it.",
        )
    answered = [line for line in measurements if "pass@1" in line]
    best = max(answered, key=lambda line: line["pass@1"], default=None)
    if best is None or answered[-1]["pass@1_interval"][1] >= best["pass@1_interval"][0]:
        return
    yield Advisory(
        level="warning",
        title="Held-out pass@1 has fallen",
        detail=f"{answered[-1]['pass@1']:.1%} after step {answered[-1]['step']}, {best['pass@1']:.1%} at best after step {best['step']}. "
        "Set training.export=best and training.validation.choose_by=pass@1, or lower training.learning_rate.",
    )
