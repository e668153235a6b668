"""How long texts are, in tokens: of the problems as they are read, of answers as an earlier run has measured them, or else assumed.

How to use: `lengths = Lengths.of(config, questions, like)`; every field is the mean of a row, as a range.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.durable import durable_records
from cgd_ray.data.models import is_hub_name
from cgd_ray.data.prompts import Message, load_prompts
from cgd_ray.data.records import TURNS
from cgd_ray.planning.ranges import Range

CHARACTERS_PER_TOKEN = Range(3.3, 2.6, 3.9)
"""Of mathematics in English."""
QUESTION_CHARACTERS = Range(260.0, 120.0, 700.0)
"""Where the problems are not at hand."""
TURN_TOKENS = 12.0
"""What a chat template puts around a message."""
ANSWER = Range(450.0, 200.0, 1000.0)
THOUGHTFUL_ANSWER = Range(4000.0, 1500.0, 9000.0)
CRITIQUE = Range(380.0, 180.0, 900.0)
"""Mean tokens of a mathematics answer, of one with thoughts, of a critique, where nobody has measured them."""
ANSWER_AFTER_THOUGHTS = 0.15
"""Of a turn with thoughts, what follows them."""
LEAST_OF_LIMIT = 0.25
"""Of its limit, what a turn may take on average."""
MEASURED_ERROR = 2.0
"""Standard errors around a measured mean."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Mean tokens of a row."""

    question: Range
    attempt: Range
    """As it was generated; so are the next three."""
    critique: Range
    refinement: Range
    direct: Range
    answer_share: Mapping[str, float]
    """By role, what of its turns is shown to the other model and trained: all, or what follows thoughts that are kept apart."""
    student_overhead: float
    """Template and wording around the question, for the student."""
    teacher_overhead: float
    """The same of the critique's turn."""
    refine_overhead: float
    """Of the refinement's request."""
    revise_overhead: float
    """Of the revision's request, as the student sees it in training."""
    source: str
    """Where the answers' lengths come from."""

    def shown(self, turn: str) -> Range:
        """What of a turn the other model sees and the student learns."""
        length: Range = getattr(self, turn)
        return length * self.answer_share["student" if turn == "attempt" else "teacher"]


def measured_or_assumed(config: Config, questions: Sequence[str], like: Path | None) -> Lengths:
    """Lengths for a config; `like` is a run directory whose records tell those of the answers."""
    prompts = load_prompts(config.prompts)
    student, teacher = _Counter(config.student), _Counter(config.teacher)
    answers = None if like is None else _measured(like)
    source = "assumed; --pilot 64 measures them" if answers is None else f"measured in {like}"
    if answers is None:
        answers = {
            "attempt": _assumed(config.student, ANSWER),
            "critique": _assumed(config.teacher, CRITIQUE),
            "refinement": _assumed(config.teacher, ANSWER),
            "direct": _assumed(config.teacher, ANSWER),
        }
    return Lengths(
        question=_of_questions(questions, student),
        **{turn: answers.get(turn, answers["refinement"]) for turn in (*TURNS, "direct")},
        answer_share={name: _answer_share(getattr(config, name)) for name in ("student", "teacher")},
        student_overhead=_tokens(prompts.solve_messages("", prompts.student_system), student),
        teacher_overhead=_tokens(prompts.critique_messages("", ""), teacher),
        refine_overhead=_tokens(prompts.refine_messages("", "", ""), teacher) - _tokens(prompts.critique_messages("", ""), teacher),
        revise_overhead=_tokens(prompts.revise_messages("", "", ""), student)
        - _tokens(prompts.solve_messages("", prompts.student_system), student),
        source=source,
    )


def _answer_share(role: RoleConfig) -> float:
    return ANSWER_AFTER_THOUGHTS if role.thinking is not None and role.thinking.separate else 1.0


def _assumed(role: RoleConfig, usual: Range) -> Range:
    """Of a turn of this role, cut at its limit, far below which it may still stay: a low limit is for short answers."""
    limit = role.sampling.max_tokens
    cut = (THOUGHTFUL_ANSWER if role.thinking is not None else usual).at_most(limit)
    return Range(cut.likely, min(cut.low, LEAST_OF_LIMIT * limit), cut.high)


def _measured(run_dir: Path) -> dict[str, Range]:
    """Mean tokens of each turn, with its standard error, in the records of a run. Raises ValueError where there are none."""
    parts = durable_records(run_dir / "records").parts
    if not parts:
        raise ValueError(f"{run_dir} holds no records to take lengths from; give the run directory of a generation that has come further")
    found: dict[str, Range] = {}
    for turn in (*TURNS, "direct"):
        if (column := f"{turn}_tokens") in pq.read_schema(parts[0]).names:
            counts = pa.concat_tables([pq.read_table(part, columns=[column]) for part in parts])[column]
            if (counts := counts.filter(pc.greater(counts, 0))).length():
                found[turn] = _mean(counts)
    return found


def _mean(counts: pa.ChunkedArray) -> Range:
    """A mean within its standard errors, as a few long answers move it."""
    mean, error = pc.mean(counts).as_py(), MEASURED_ERROR * pc.stddev(counts).as_py() / math.sqrt(counts.length())
    return Range(mean, mean - error, mean + error)


class _Counter:
    """Counts tokens of a text: by the model's own tokenizer where it is here, else by its characters."""

    def __init__(self, role: RoleConfig) -> None:
        from tokenizers import Tokenizer

        file = Path(role.model) / "tokenizer.json"
        self._tokenizer = None if role.api is not None or is_hub_name(role.model) or not file.exists() else Tokenizer.from_file(str(file))

    def __call__(self, text: str) -> Range:
        if self._tokenizer is None:
            return Range.exactly(len(text)) / CHARACTERS_PER_TOKEN
        return Range.exactly(len(self._tokenizer.encode(text, add_special_tokens=False).ids))


def _of_questions(questions: Sequence[str], counter: _Counter) -> Range:
    if not questions:
        return QUESTION_CHARACTERS / CHARACTERS_PER_TOKEN
    counts = [counter(question) for question in questions]
    return Range(*(fmean(getattr(count, bound) for count in counts) for bound in ("likely", "low", "high")))


def _tokens(messages: Sequence[Message], counter: _Counter) -> float:
    return sum(counter(message.content).likely + TURN_TOKENS for message in messages)
