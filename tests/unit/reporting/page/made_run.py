"""A run directory as a finished run leaves it, without a run: every file that the report page reads, its content from a seed.

How to use: `made = MadeRun(tmp_path / "run", num_records=40)`; `made.selected(extra=[row])`, `made.finish()`.
"""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.data.records import SELECTED_SCHEMA, WORK_SCHEMA, make_record_id
from cgd_ray.data.rundir import RunDir, write_json, write_manifest

WORDS = "first we add the ones then carry so that each term of the sum is even and the rest follows by induction"
ROWS_PER_GROUP = 64
MODELS = {"base": 0.4, "trained": 0.7}
"""Each model's share of right answers."""


class MadeRun:
    """One directory, filled stage by stage."""

    def __init__(self, root: Path, num_records: int = 40, num_words: int = 20) -> None:
        self.directory = RunDir(root)
        self._draw = random.Random(0)
        self._num_words = num_words
        self.rows = [self._record(number) for number in range(num_records)]
        work = pa.Table.from_pylist([{name: row.get(name) for name in WORK_SCHEMA.names} for row in self.rows], schema=WORK_SCHEMA)
        self.directory.work_list.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(work, self.directory.work_list)

    def finish(self, extra: Sequence[dict[str, Any]] = ()) -> RunDir:
        """All stages; `extra` rows are records too."""
        self.selected(extra)
        self.trained()
        self.evaluated()
        self.diagnosed()
        write_json(self.directory.seconds, {"start": 16.5, "generate": 87.1, "train": 94.3, "evaluate": 65.3})
        write_json(self.directory.summary, SUMMARY)
        write_json(self.directory.decontamination, {"checked": len(self.rows) + 7, "removed": 7, "ngram": 13, "problems": []})
        return self.directory

    def selected(self, extra: Sequence[dict[str, Any]] = ()) -> None:
        """The selected records in two parts, with small row groups."""
        rows = [*self.rows, *extra]
        halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        parts = [self.directory.selected / f"selected-{number:05}.parquet" for number in range(2)]
        self.directory.selected.mkdir(parents=True)
        for part, half in zip(parts, halves, strict=True):
            pq.write_table(pa.Table.from_pylist(half, schema=SELECTED_SCHEMA), part, row_group_size=ROWS_PER_GROUP)
        write_manifest(self.directory.selected, "f", parts, {})

    def trained(self, num_steps: int = 60, loss: float = 2.0) -> None:
        """Steps with held-out losses, measured checkpoints and the manifest of the examples."""
        steps = [self._step(number, num_steps, loss) for number in range(1, num_steps + 1)]
        measured = [
            {"step": step, "pass@1": 0.4 + step / 200, "pass@1_interval": [0.3 + step / 200, 0.5 + step / 200]} for step in (20, 40, 60)
        ]
        for file, lines in ((self.directory.metrics, steps), (self.directory.metrics.with_name("validation.jsonl"), measured)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        kept = sum(row["drop_reason"] is None and row["error"] is None for row in self.rows)
        write_manifest(self.directory.examples, "f", [], {"examples": kept - 3, "dropped": {"over_context_length": 3}})

    def evaluated(self, models: dict[str, float] = MODELS, benchmarks: Sequence[str] = ("tinymath", "amc23"), num_samples: int = 4) -> None:
        """Graded answers and reports."""
        for model, share in models.items():
            for benchmark in benchmarks:
                self._evaluate(self.directory.evaluation(model) / benchmark, share, num_samples)

    def diagnosed(self) -> None:
        """What a diagnosis finds, with gains of tokens for the first ten records."""
        gains = [
            {"record_id": row["record_id"], "tokens": re.findall(r"\s*\S+", row["refinement"]), "gain": None}
            for row in self.rows[:10]
            if row["refinement"]
        ]
        for row in gains:
            row["gain"] = [self._draw.gauss(0.3, 0.6) for _ in row["tokens"]]
        schema = pa.schema([("record_id", pa.string()), ("tokens", pa.list_(pa.string())), ("gain", pa.list_(pa.float32()))])
        self.directory.diagnostics.mkdir()
        pq.write_table(pa.Table.from_pylist(gains, schema=schema), self.directory.diagnostics / "token_gains.parquet")
        for name, content in DIAGNOSTICS.items():
            write_json(self.directory.diagnostics / f"{name}.json", content)

    def record(self, number: int, **columns: Any) -> dict[str, Any]:
        """One more record, with these columns in place of what chance gives."""
        return {**self._record(number), **columns}

    def _record(self, number: int) -> dict[str, Any]:
        problem = f"problem-{number:05}"
        before, after = self._draw.random() < 0.4, self._draw.random() < 0.85
        answer = self._draw.randint(2, 99)
        attempt, critique = self._text(), self._text()
        refinement = (
            attempt.replace("even", "odd").replace("carry", "keep")
            + f"\nSo $x^2 + {answer} = \\frac{{{answer}}}{{2}}$ and\n\\boxed{{{answer}}}"
        )
        row = {
            "record_id": make_record_id(problem, 0),
            "sample_index": 0,
            "problem_id": problem,
            "question": f"Problem {number}: what is the sum of \\({answer}\\) terms? {self._text()}",
            "reference_answer": str(answer),
            "error": None,
            "attempt": f"{attempt}\n\\boxed{{{answer + 1}}}",
            "critique": f"{critique}\nConclusion: {'right' if before else 'wrong'}",
            "refinement": refinement,
            "verdict": "right" if before else "wrong",
            "critique_is_empty": number % 7 == 0,
            "num_refinements": 1,
            "attempt_correct": before,
            "refinement_correct": after,
            "leaks": ["answer_in_critique"] if self._draw.random() < 0.1 else [],
            "drop_reason": "attempt_truncated" if self._draw.random() < 0.05 else None,
        }
        for turn in ("attempt", "critique", "refinement"):
            row |= {f"{turn}_tokens": int(self._draw.lognormvariate(5, 0.5)), f"{turn}_finish_reason": "stop"}
        if self._draw.random() < 0.04:
            lost = ("critique", "refinement", "verdict", "refinement_correct", "leaks", "drop_reason", "critique_finish_reason")
            row |= {**dict.fromkeys(lost), "error": f"critique: the prompt has {1000 + number} tokens"}
        return row

    def _text(self) -> str:
        return " ".join(self._draw.choices(WORDS.split(), k=self._num_words))

    def _step(self, number: int, num_steps: int, loss: float) -> dict[str, float]:
        value = loss / number**0.5 + self._draw.random() / 20
        held_out = {"validation/loss": value + 0.1} if number % 10 == 0 else {}
        times = {"time/data_s": 0.01, "time/forward_s": 0.2, "time/backward_s": 0.4, "time/optimizer_s": 0.05, "time/step_s": 0.7}
        norm = {"train/grad_norm": 0.2 + self._draw.random()}
        return {"train/step": number, "train/num_steps": num_steps, "train/loss": value, **norm, **held_out, **times}

    def _evaluate(self, directory: Path, share: float, num_samples: int) -> None:
        rows = []
        for number in range(30):
            answer = 7 * number + 3
            for sample in range(num_samples):
                is_right = self._draw.random() < share
                said = answer if is_right else answer + 1
                rows.append(
                    {
                        "problem_id": f"question-{number:03}",
                        "sample_index": sample,
                        "question": f"Question {number}?",
                        "reference_answer": str(answer),
                        "attempt": f"{self._text()}\n\\boxed{{{said}}}",
                        "attempt_tokens": 40,
                        "attempt_finish_reason": "stop",
                        "extracted": str(said),
                        "correct": is_right,
                        "grade_reason": "equal" if is_right else "not equal",
                    }
                )
        directory.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), directory / "graded.parquet")
        mean = sum(bool(row["correct"]) for row in rows) / len(rows)
        passed = {str(k): 1 - (1 - mean) ** k for k in (1, 2, 4)}
        report = {
            "benchmark": directory.name,
            "grader": "boxed-math",
            "num_problems": 30,
            "num_samples": num_samples,
            "avg@k": mean,
            "interval": [mean - 0.1, min(1.0, mean + 0.1)],
            "interval_kind": "bootstrap",
            "pass@k": passed,
            "pass@k_band": {k: [value - 0.08, min(1.0, value + 0.08)] for k, value in passed.items()},
            "maj@k": mean,
            **{"truncated": 0.01, "unboxed": 0.02, "failed": 0.0},
        }
        write_json(directory / "report.json", report)
        write_manifest(directory, "f", [directory / "graded.parquet"], {})


COST = {"prompt_tokens": 52502, "generated_tokens": 43428, "prefix_hits": 0.5, "engine_seconds": 41.6, "gpu_seconds": 0.0, "cost": None}
SUMMARY: dict[str, Any] = {
    "generation": {
        "student": COST,
        "teacher": {**COST, "cost": 1.25},
        "per_kept_record": {**COST, "prompt_tokens": 12.5},
        "currency": "USD",
    },
    "training": {
        **{"world_size": 2, "zero_stage": 2, "tokens": 401190, "target_tokens": 86540, "tokens_per_s": 6879.6},
        **{"peak_gib": 0.77, "mfu": None, "seconds": 93.3},
    },
    "precision": {"student": "bfloat16", "training": "bf16"},
    "versions": {"torch": "2.13.0"},
}

GIVEN = {"problem": "x", "attempt": "x, y'", "critique": "x, y', c", "foreign_critique": "x, y', another problem's c"}
LOSSES = {"base": (0.61, 0.58, 0.41, 0.52), "trained": (0.45, 0.44, 0.3, 0.41)}
"""Each model's nats per token in each context."""
STYLE = {"answers": 120, "failed": 0, "boxed": 0.99, "truncated": 0.01, "mentions_review": 0.0, "looping": 0.0, "tokens": {"median": 41.0}}
DRIFT_ADVISORY = {
    "level": "warning",
    "title": "Answers lose their box",
    "detail": "12.0% of the trained student's answers have no boxed answer.",
}


def _difference(mean: float, standard_error: float = 0.02) -> dict[str, float]:
    return {"mean": mean, "standard_error": standard_error}


def _accuracy(share: float) -> dict[str, Any]:
    kind = {"interval_kind": "mid-P over problems", "truncated": 0.0, "unboxed": 0.02, "failed": 0.0}
    return {"accuracy": share, "interval": [share - 0.06, share + 0.06], **kind}


DIAGNOSTICS: dict[str, dict[str, Any]] = {
    "nll": {
        "records": {"side": "held_out", "sampled": 256, "of": 1024, "problems": 250, "left_out": {}, "attempt_shortened": 0},
        "contexts": GIVEN,
        "groups": {
            "all": {
                "records": 256,
                "target_tokens": 10980,
                "nll": {model: dict(zip(GIVEN, losses, strict=True)) for model, losses in LOSSES.items()},
                "differences": {
                    model: {
                        "both_explain": _difference(problem - critique),
                        "attempt_explains": _difference(problem - attempt),
                        "critique_explains": _difference(attempt - critique),
                        "style": _difference(attempt - foreign, 0.05),
                        "relevance": _difference(foreign - critique),
                    }
                    for model, (problem, attempt, critique, foreign) in LOSSES.items()
                },
                "internalised": _difference(0.16),
            }
        },
    },
    "conditioned": {
        "side": "held_out",
        "problems": 250,
        "students": {
            model: {
                "alone": _accuracy(alone),
                "given_critique": _accuracy(given),
                "difference": given - alone,
                "difference_interval": [given - alone - 0.05, given - alone + 0.05],
                "p": 0.01,
            }
            for model, (alone, given) in {"base": (0.41, 0.63), "trained": (0.7, 0.78)}.items()
        },
    },
    "verdicts": {
        "critiques": 1024,
        "verdicts": {"precision": 0.979, "recall": 0.987, "accuracy": 0.98, "without_verdict": 0.01},
        "teacher": {
            "refinement": {"1": {"value": 0.97, "problems": 256}, "2": {"value": 0.99, "problems": 200}},
            "within_tries": {"1": 0.9, "2": 0.95, "3": 0.97},
            "direct": None,
        },
    },
    "drift": {
        "advisories": [],
        "benchmarks": {
            name: {"base": STYLE, "trained": {**STYLE, "boxed": boxed, "tokens": {"median": 38.0}}, "advisories": advisories}
            for name, boxed, advisories in (("tinymath", 0.87, [DRIFT_ADVISORY]), ("amc23", 0.99, []))
        },
    },
}
"""As `cgd diagnose` writes them, without what the page does not read."""
