"""The row that flows through everything: one flat record per (problem, sample), each column's meaning, unit and writer.

Problem -> Attempt -> Critique -> Refinement. Stages only add columns; a row that failed keeps what it has and says why in `error`.
Symbols as in the method's paper: x the problem, y' the attempt, c the critique, y^ the refinement.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from cgd_ray.config import CutAttempts

RECORDS_VERSION = 1
"""Of what the columns mean; to be raised when one comes to mean something else, so that older records are refused and not misread."""

Turn = Literal["attempt", "critique", "refinement", "direct"]
TURNS: tuple[Turn, ...] = ("attempt", "critique", "refinement")
"""What every record has; `direct`, the teacher's answer to the problem alone, is made only when it is asked for."""
TURNS_OF_ROLE: Mapping[str, tuple[Turn, ...]] = {"student": ("attempt",), "teacher": ("critique", "refinement", "direct")}
"""Which model takes which turns; a turn is one generation, and the column that holds its text has its name."""

CUT: Mapping[str, str] = {"length": "truncated", "repetition": "repetitive"}
"""Finish reasons of generations that did not end by themselves, and what their turn is then called: cut off by a limit, or ended since it
repeated itself. Whatever is said of cut generations holds for both."""

PROBLEM_SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),  # unique; from the source, or a hash of the question
        ("question", pa.string()),  # x
        ("reference_answer", pa.string()),  # null when unknown; grading only, never shown to a model
        ("reference_solution", pa.string()),  # null when unknown; target of the `sft` arm
        ("error", pa.string()),  # "<stage>: <reason>" of the first thing that went wrong with the row; null when nothing did
    ]
)

WORK_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),  # hash of (problem_id, sample_index); the id that exactly-once is about
        ("sample_index", pa.int32()),
        *PROBLEM_SCHEMA,
    ]
)


def _turn_fields(turn: Turn) -> list[pa.Field]:
    return [
        pa.field(turn, pa.string()),  # the text; null when the row failed before or in this stage, or was unusable before it
        pa.field(f"{turn}_thinking", pa.string()),  # what a reasoning model thought before it; null for others
        # token counts are sums over all tries of a refinement; its other columns are those of the one that is kept
        pa.field(f"{turn}_prompt_tokens", pa.int32()),
        pa.field(f"{turn}_cached_tokens", pa.int32()),  # of the prompt's tokens, those found in the engine's prefix cache
        pa.field(f"{turn}_tokens", pa.int32()),  # generated, the end token included
        pa.field(f"{turn}_finish_reason", pa.string()),  # "stop", or one of CUT
        pa.field(f"{turn}_seed", pa.int64()),  # null where the engine drew from a generator of its own (sampling.seed_per_request)
        pa.field(f"{turn}_fingerprint", pa.string()),  # of everything that made this column, see generation/fingerprints.py
    ]


RECORD_SCHEMA = pa.schema(
    [
        *WORK_SCHEMA,
        *[field for turn in TURNS for field in _turn_fields(turn)],
        pa.field("verdict", pa.string()),  # "right", "wrong", or null when there is no critique, or none with a single verdict
        pa.field("num_refinements", pa.int32()),  # how many refinements were made; the last one is kept
        *_turn_fields("direct"),
    ]
)

SELECTED_SCHEMA = pa.schema(
    [
        *RECORD_SCHEMA,
        pa.field("attempt_correct", pa.bool_()),  # y' against the reference answer; null without one
        pa.field("refinement_correct", pa.bool_()),  # y^ against the reference answer; null without one
        pa.field("critique_is_empty", pa.bool_()),  # whether c says nothing but its verdict; null without one
        pa.field("leaks", pa.list_(pa.string())),  # names of what selection/leakage.py found; null when the row failed or has no refinement
        pa.field("drop_reason", pa.string()),  # null: kept for training
    ]
)


def columns_of(turn: Turn) -> list[str]:
    """The columns that a stage writes, in the record's order."""
    besides = {"attempt": (), "critique": ("verdict",), "refinement": ("num_refinements",), "direct": ()}[turn]
    return [name for name in RECORD_SCHEMA.names if name.startswith(turn) or name in besides]


def unusable(row: Mapping[str, Any], turns: Sequence[Turn], cut_attempts: CutAttempts) -> str | None:
    """Which of the turns made what cannot be used, and why ("attempt_truncated", "critique_empty"); None: all are usable.

    A critique or a refinement that was cut would teach not to stop. An attempt that was cut is a flawed response, and so what
    is to be corrected, where `cut_attempts` is "use": unless nothing but a thought is there, or a run that dropped it left it uncorrected.
    """
    for turn in turns:
        text, end = (row[turn] or "").strip(), row[f"{turn}_finish_reason"]
        if end in CUT and not (text and turn == "attempt" and cut_attempts == "use" and _goes_on(row, turns)):
            return f"{turn}_{CUT[end]}"
        if not text:
            return f"{turn}_empty"
    return None


def _goes_on(row: Mapping[str, Any], turns: Sequence[Turn]) -> bool:
    """Whether the attempt was criticised, or is not to be yet."""
    return "critique" not in turns or row["critique_finish_reason"] is not None


def check_version(manifest: Mapping[str, Any], directory: Path) -> None:
    """Raise ValueError when the records that a manifest describes are of another version."""
    version = manifest.get("version", 1)  # the first version's manifests did not say
    if version != RECORDS_VERSION:
        raise ValueError(
            f"{directory} holds records of version {version}, this cgd_ray reads and writes version {RECORDS_VERSION}; "
            "generate them again, or use the cgd_ray that wrote them"
        )


def make_record_id(problem_id: str, sample_index: int) -> str:
    """16 hex digits that name one (problem, sample) for ever."""
    return short_hash(f"{problem_id}\x00{sample_index}")


def short_hash(text: str) -> str:
    """First 16 hex digits of SHA-256; lone surrogates are allowed, they are data."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
