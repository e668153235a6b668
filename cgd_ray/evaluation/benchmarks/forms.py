"""How a row of a published data set becomes a question, a reference answer, and what else a grader needs of it.

A form is two functions of a row's columns: `columns` gives those that hold question and reference, `fields` the rest. Both raise
ValueError, a few words, for a row that is no problem of the kind. How to use: `SHUFFLED_OPTIONS.columns(row)["Question"]`.
"""

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cgd_ray.config import FieldMapping

Columns = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a row holds."""

    columns: Callable[[Columns], Columns]
    """The row with question and reference answer in the columns that are mapped to them."""
    fields: Callable[[Columns], dict[str, Any]]
    """What the grader is given besides."""


class ListedOptionsColumns(FieldMapping):
    """Of MMLU-Pro: the options are a list, and the reference is a letter."""

    options: str = "options"


class RightAndWrongColumns(FieldMapping):
    """Of GPQA: the right option is the reference, the others have a column each."""

    wrong_1: str = "Incorrect Answer 1"
    wrong_2: str = "Incorrect Answer 2"
    wrong_3: str = "Incorrect Answer 3"


class InstructionColumns(FieldMapping):
    """Of IFEval and IFBench: which checks an answer has to pass, and their arguments."""

    instruction_id_list: str = "instruction_id_list"
    kwargs: str = "kwargs"


def _listed(row: Columns) -> tuple[str, list[str]]:
    question, options = row.get("question"), row.get("options")
    if not isinstance(options, list) or len(options) < 2:
        raise ValueError(f"column 'options' is {options!r}, not a list of options")
    return str(question or ""), [str(option).strip() for option in options]


def _shuffled(row: Columns) -> tuple[str, list[str], str]:
    """The question, its options in an order that is the question's own, and the letter of the right one."""
    question, right = row.get("Question"), row.get("Correct Answer")
    texts = [right, *(row.get(f"Incorrect Answer {number}") for number in (1, 2, 3))]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"the options are {texts!r}, which are not four texts")
    order = list(range(len(texts)))
    random.Random(str(question)).shuffle(order)  # the same for every model, sample and seed, and where the file has another order
    options = [str(texts[place]).strip() for place in order]
    return str(question or "").strip(), options, string.ascii_uppercase[order.index(0)]


def _with_options(question: str, options: Sequence[str]) -> str:
    lines = [f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False)]
    return "\n".join([question, "", *lines]) if question.strip() else question


def _listed_columns(row: Columns) -> Columns:
    question, options = _listed(row)
    return {**row, "question": _with_options(question, options)}


def _shuffled_columns(row: Columns) -> Columns:
    question, options, letter = _shuffled(row)
    return {**row, "Question": _with_options(question, options), "Correct Answer": letter}


def _instructions(row: Columns) -> dict[str, Any]:
    names, arguments = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments) or not names:
        raise ValueError(f"instruction_id_list {names!r} and kwargs {arguments!r} are not lists of the same length")
    # the hub's table has a column for every argument of any check, null where a check has none
    given = [{name: value for name, value in dict(each or {}).items() if value is not None} for each in arguments]
    return {"instruction_id_list": names, "kwargs": given}


def _instruction_columns(row: Columns) -> Columns:
    _instructions(row)
    return row


PLAIN = Form(columns=lambda row: row, fields=lambda row: {})
LISTED_OPTIONS = Form(columns=_listed_columns, fields=lambda row: {"choices": _listed(row)[1]})
SHUFFLED_OPTIONS = Form(columns=_shuffled_columns, fields=lambda row: {"choices": _shuffled(row)[1]})
INSTRUCTIONS = Form(columns=_instruction_columns, fields=_instructions)
