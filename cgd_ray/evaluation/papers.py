"""What a model is asked under one name, in which words, and how its answers are graded: an exam consists of such papers.

A paper's rows are in the order of their ids, which are hashes: so what is answered first is a fair sample of the whole.
How to use: `paper = Paper(name="math-500", work_list=path, wording="solve", grader="boxed-math", k=(1,))`; `paper.asked(prompts)`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.config import RoleConfig
from cgd_ray.data.prompts import Prompts, Wording
from cgd_ray.data.records import WORK_SCHEMA, make_record_id, short_hash
from cgd_ray.evaluation.benchmarks.loading import FIELDS, MESSAGES, content_sha256
from cgd_ray.generation.fingerprints import attempt_fingerprint

AS_ASKED = "{question}"
"""The template of a model that is asked rows whose questions are in their final words already."""
ASKED_SCHEMA = pa.schema([*WORK_SCHEMA, pa.field(MESSAGES, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))])
"""Rows as they are asked: with the conversation of which the model takes the next turn."""

GRADING_VERSION = 2
"""Of what verdicts by the same grader mean, to be raised when it changes: answers that are there are then graded anew, not asked again."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Crosses processes as names and paths."""

    name: str
    """Of the benchmark; evaluation.problems is called `problems`."""
    work_list: Path
    """WORK_SCHEMA, and perhaps a column with what the grader needs besides, or with what is asked in place of the problem alone."""
    wording: Wording = "solve"
    """Which of the prompts it is asked with."""
    grader: str = "boxed-math"
    """As grading/graders.py has it."""
    k: tuple[int, ...] = (1,)
    """Of pass@k."""
    source: str = ""
    """Where its problems are from, for the report."""

    @cached_property
    def rows(self) -> pa.Table:
        """The work list in the order in which it is asked and graded."""
        rows = pq.read_table(self.work_list)
        if FIELDS not in rows.column_names:
            rows = rows.append_column(FIELDS, pa.nulls(rows.num_rows, pa.string()))
        return rows.sort_by([("problem_id", "ascending"), ("sample_index", "ascending")]).combine_chunks()

    @cached_property
    def content(self) -> str:
        """Hex SHA-256 of the problems."""
        return content_sha256(self.rows)

    @property
    def num_samples(self) -> int:
        """Answers per problem."""
        return int(pc.max(self.rows["sample_index"]).as_py()) + 1

    def asked(self, prompts: Prompts) -> pa.Table:
        """ASKED_SCHEMA, with the problem in the words in which the model reads it, and with ids that no other paper has."""
        rows = self.rows
        questions = [prompts.asked(self.wording, question) for question in rows["question"].to_pylist()]
        names = zip(rows["problem_id"].to_pylist(), rows["sample_index"].to_pylist(), strict=True)
        ids = [make_record_id(f"{self.name}\x00{problem_id}", sample) for problem_id, sample in names]
        columns = {
            "record_id": pa.array(ids, pa.string()),
            "question": pa.array(questions, pa.string()),
            MESSAGES: pa.array(self._conversations(prompts, questions), ASKED_SCHEMA.field(MESSAGES).type),
        }
        return pa.Table.from_arrays([columns[name] if name in columns else rows[name] for name in ASKED_SCHEMA.names], schema=ASKED_SCHEMA)

    def _conversations(self, prompts: Prompts, questions: Sequence[str]) -> list[Any]:
        """What the work list says, else the problems alone."""
        if MESSAGES in self.rows.column_names:
            return list(self.rows[MESSAGES].to_pylist())
        sent = as_asked(prompts)
        return [[asdict(message) for message in sent.solve_messages(question, sent.student_system)] for question in questions]

    def answers_fingerprint(self, model: str, prompts: Prompts) -> str:
        """Names the model and its decoding, by model_fingerprint(), the words and the problems."""
        return short_hash(json.dumps([model, prompts.asked(self.wording, AS_ASKED), self.content, self.num_samples]))

    def report_fingerprint(self, answers: str) -> str:
        """Names the answers and what becomes of them."""
        return short_hash(json.dumps([answers, self.grader, list(self.k), GRADING_VERSION]))


def model_fingerprint(role: RoleConfig, prompts: Prompts) -> str:
    """Names a model, its system message and its decoding; reads the model's files."""
    return attempt_fingerprint(role, as_asked(prompts))


def as_asked(prompts: Prompts) -> Prompts:
    """The prompts with which the rows of `asked` are sent as they stand."""
    return Prompts(student_system=prompts.student_system, solve=AS_ASKED)
