"""An over-long example loses the end of its attempt, never anything else, and no more than it must."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.training.examples.arms import ARMS
from cgd_ray.training.examples.fitting import Fitted, fit
from cgd_ray.training.examples.writing import make_examples
from tests.builders import tiny_records, tiny_tokenizer, write_selected

CHAT = Chat(tiny_tokenizer())
PROMPTS = Prompts()
READ_THE_ATTEMPT = ("cgd", "cgd_without_critique", "cft")


def record(**columns: Any) -> dict[str, Any]:
    (row,) = tiny_records(1, **columns)
    return row


def length(row: dict[str, Any], arm: str = "cgd") -> int:
    fitted = fit(row, arm, PROMPTS, CHAT, 10**6)
    assert fitted is not None
    return len(fitted.example.input_ids)


def attempt_in(fitted: Fitted, row: dict[str, Any], arm: str) -> str:
    """The attempt that the example shows, with everything around it checked to be whole."""
    whole = ARMS[arm]({**row, "attempt": "\x00"}, PROMPTS)
    assert fitted.conversation.target == whole.target
    shown = "\x01".join(message.content for message in fitted.conversation.messages)
    before, after = "\x01".join(message.content for message in whole.messages).split("\x00")
    assert shown.startswith(before)
    assert shown.endswith(after)
    return shown[len(before) : len(shown) - len(after)]


@pytest.mark.parametrize("arm", READ_THE_ATTEMPT)
@settings(max_examples=60, deadline=None)
@given(attempt=st.text(min_size=1, max_size=80).filter(lambda text: not text.endswith("\ufffd")), share=st.floats(0, 1))
def test_only_the_attempts_end_is_cut_and_no_more_than_needed(arm: str, attempt: str, share: float) -> None:
    row = record(attempt=attempt)
    least, whole = length({**row, "attempt": ""}, arm), length(row, arm)
    context_length = least + int(share * (whole - least))
    fitted = fit(row, arm, PROMPTS, CHAT, context_length)
    assert fitted is not None
    assert len(fitted.example.input_ids) <= context_length
    shown = attempt_in(fitted, row, arm)
    assert attempt.startswith(shown)
    assert (fitted.attempt_tokens_cut > 0) == (context_length < whole)
    longer = attempt[: len(shown) + 3]
    assert shown == attempt or length({**row, "attempt": longer}, arm) > context_length


def test_an_example_that_fits_is_left_alone() -> None:
    row = record()
    fitted = fit(row, "cgd", PROMPTS, CHAT, length(row))
    assert fitted is not None
    assert (fitted.attempt_tokens_cut, fitted.conversation) == (0, ARMS["cgd"](row, PROMPTS))


@pytest.mark.parametrize("arm", READ_THE_ATTEMPT)
def test_what_does_not_fit_without_the_attempt_does_not_fit(arm: str) -> None:
    row = record(attempt="long " * 50)
    least = length({**row, "attempt": ""}, arm)
    assert fit(row, arm, PROMPTS, CHAT, least) is not None
    assert fit(row, arm, PROMPTS, CHAT, least - 1) is None


@pytest.mark.parametrize("arm", [name for name in ARMS if name not in READ_THE_ATTEMPT])
def test_an_arm_that_shows_no_attempt_has_nothing_to_cut(arm: str) -> None:
    row = record(attempt="long " * 50)
    assert fit(row, arm, PROMPTS, CHAT, length(row, arm) - 1) is None


def test_shortened_attempts_are_counted_and_are_not_dropped(tmp_path: Path) -> None:
    rows = tiny_records(3, critique="Wrong.")
    rows[0]["attempt"] = "word " * 60
    rows[1]["refinement"] = "word " * 60
    context_length = length(rows[2])
    selected = write_selected(tmp_path / "selected", rows)
    details = make_examples(TrainingConfig(context_length=context_length), CHAT, PROMPTS, selected, tmp_path / "examples")
    assert (details["examples"], details["attempt_shortened"], details["dropped"]) == (2, 1, {"over_context_length": 1})
