"""What the losses of refinements in four contexts tell: how much a critique explains, and how much of it the student has made its own.

A difference is that of two means over the same target tokens, in nats per token, so the numbers add up:
    critique_explains (x, y' minus x, y', c) = style (x, y' minus x, y', foreign c) + relevance (x, y', foreign c minus x, y', c).
What another problem's critique of the same verdict and length explains as well is mere style; the rest needs this critique. The contrast
is that of RLCSD (arXiv 2606.11709), taken here on the targets.
A student may be at a loss with x, y' alone, since it is asked for a second try in words that it has not been trained on. Then a critique
seems to explain much, and so does a foreign one; both_explain (x minus x, y', c) tells what both are worth together.
internalised (x before minus x after the training) is what the student now knows from the problem alone. It holds the teacher's style too,
which the arm refined_only learns as well, so it says most beside that arm's, and on held-out records, where memory does not count.

The standard errors are those of a ratio estimator with problems as clusters (Cochran, Sampling Techniques, chapter 6): neither the tokens
of a record nor the records of a problem are independent observations.
How to use: `nll_report(sample, {"base": losses, "trained": losses})`, `token_gains(sample, losses["base"], chat)`.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers.decoders import DecodeStream

from cgd_ray.data.chat import DECODING_CONTEXT, Chat, Example
from cgd_ray.evaluation.diagnostics.contexts import ATTEMPT, CRITIQUE, FOREIGN, PROBLEM, Sample, targets_of
from cgd_ray.evaluation.diagnostics.measuring import Losses

SHOWN = {PROBLEM: "x", ATTEMPT: "x, y'", CRITIQUE: "x, y', c", FOREIGN: "x, y', another problem's c"}
DIFFERENCES = {
    "both_explain": (PROBLEM, CRITIQUE),
    "attempt_explains": (PROBLEM, ATTEMPT),
    "critique_explains": (ATTEMPT, CRITIQUE),
    "style": (ATTEMPT, FOREIGN),
    "relevance": (FOREIGN, CRITIQUE),
}
"""Each difference: the loss in the first context minus that in the second, by one model."""
BEFORE, AFTER = "base", "trained"
NOISE = 2.0
"""Standard errors that a difference must exceed to be divided by."""
GAINS_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("tokens", pa.list_(pa.string())),  # the refinement as the student's tokens, whose texts joined are its text
        ("gain", pa.list_(pa.float32())),  # nats: loss given (x, y') minus loss given (x, y', c)
        ("relevance", pa.list_(pa.float32())),  # nats: loss given another problem's critique minus loss given its own; null without
    ]
)


def nll_report(sample: Sample, losses: Mapping[str, Losses]) -> dict[str, Any]:
    """What nll.json holds, of one model (`base`) or two (`trained`): all records, and those of each verdict."""
    verdicts = np.array(sample.verdicts)
    groups = {"all": np.ones(len(verdicts), bool), **{name: verdicts == name for name in sorted(set(sample.verdicts))}}
    sums = {model: {context: _sums(found) for context, found in of_model.items()} for model, of_model in losses.items()}
    return {
        "records": {
            "side": "held_out" if sample.side == "validation" else "training",
            "sampled": len(verdicts),
            "of": sample.num_records,
            "problems": len(set(sample.problem_ids)),
            "left_out": dict(sample.left_out),
            "attempt_shortened": sample.num_shortened,
        },
        "unit": "nats per target token",
        "contexts": {context: SHOWN[context] for context in sample.examples},
        "groups": {name: _group(sample, sums, chosen) for name, chosen in groups.items()},
    }


def token_gains(sample: Sample, losses: Losses, chat: Chat) -> pa.Table:
    """GAINS_SCHEMA: for each token of each refinement how much less surprising the critique makes it."""
    rows = []
    for index, name in enumerate(sample.record_ids):
        foreign = losses[FOREIGN][index] - losses[CRITIQUE][index] if FOREIGN in losses else None
        gain = losses[ATTEMPT][index] - losses[CRITIQUE][index]
        tokens = token_texts(sample.examples[PROBLEM][index], chat)
        rows.append({"record_id": name, "tokens": tokens, "gain": gain, "relevance": foreign})
    return pa.Table.from_pylist(rows, schema=GAINS_SCHEMA)


def token_texts(example: Example, chat: Chat) -> list[str]:
    """The text of each target token, control tokens by their names; of a character that is several tokens, the last has it whole."""
    stream, backend = DecodeStream(skip_special_tokens=False), chat.tokenizer.backend_tokenizer
    targets = targets_of(example)
    before = example.input_ids[: len(example.input_ids) - len(targets)]
    for token in before[-DECODING_CONTEXT:]:  # some decoders treat the first token of all in another way
        stream.step(backend, token)
    return [stream.step(backend, token) or "" for token in targets]


def difference(first_R: np.ndarray, second_R: np.ndarray, num_targets_R: np.ndarray, problem_ids: Sequence[str]) -> dict[str, Any]:
    """Mean over all tokens of first minus second, which are sums over each record's tokens, and its standard error over problems."""
    total = int(num_targets_R.sum())
    mean = float((first_R - second_R).sum()) / total
    _, problems_R = np.unique(np.array(problem_ids), return_inverse=True)
    residuals_P = np.bincount(problems_R, weights=first_R - second_R - mean * num_targets_R)
    count = len(residuals_P)
    error = sqrt(count / (count - 1) * float((residuals_P**2).sum())) / total if count > 1 else None
    return {"mean": mean, "standard_error": error}


def _sums(losses: Sequence[np.ndarray]) -> np.ndarray:
    """[R] the sum over each record's tokens."""
    return np.array([one.sum(dtype=np.float64) for one in losses])


def _group(sample: Sample, sums: Mapping[str, Mapping[str, np.ndarray]], chosen_R: np.ndarray) -> dict[str, Any]:
    """The report on some of the records."""
    num_targets_R = sample.num_targets_R[chosen_R]
    problem_ids = [name for name, chosen in zip(sample.problem_ids, chosen_R.tolist(), strict=True) if chosen]
    here = {model: {context: sums_R[chosen_R] for context, sums_R in of_model.items()} for model, of_model in sums.items()}
    total = int(num_targets_R.sum())
    report: dict[str, Any] = {
        "records": len(problem_ids),
        "target_tokens": total,
        "nll": {model: {context: float(one_R.sum()) / total for context, one_R in of_model.items()} for model, of_model in here.items()},
        "differences": {
            model: {
                name: difference(of_model[first], of_model[second], num_targets_R, problem_ids)
                for name, (first, second) in DIFFERENCES.items()
                if first in of_model and second in of_model
            }
            for model, of_model in here.items()
        },
    }
    if AFTER in here:
        report["learned"] = {
            context: difference(here[BEFORE][context], here[AFTER][context], num_targets_R, problem_ids) for context in here[BEFORE]
        }
        report["internalised"] = report["learned"][PROBLEM]
        report["internalised_share"] = _share(report["internalised"]["mean"], report["differences"][BEFORE]["both_explain"])
    return report


def _share(internalised: float, explained: Mapping[str, Any]) -> float | None:
    """Of what attempt and critique explained before the training, how much is known from the problem alone after it.

    Null where what they explained cannot be told from nothing: whatever is divided by that is noise.
    """
    error = explained["standard_error"]
    return internalised / explained["mean"] if error is not None and explained["mean"] > NOISE * error else None
