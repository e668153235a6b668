"""A conversation that is too long loses the end of its attempt: as much as must go and no more, and once for both turns."""

from collections.abc import Sequence

import pytest

from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, Prompts
from cgd_ray.engines.fitting import fit_attempt

MODEL = "examples/tinymath/models/teacher"
CHAT, PROMPTS = Chat.load(MODEL), Prompts()
ROLE = RoleConfig(model=MODEL, context_length=1024, sampling=SamplingConfig(max_tokens=100))


def conversation(attempt: str) -> Sequence[Message]:
    return PROMPTS.refine_messages("What is 1 + 1?", attempt, "")


def length(attempt: str) -> int:
    return len(CHAT.prompt(conversation(attempt)).input_ids)


@pytest.mark.parametrize("words", [1, 50, 70, 90])
def test_an_attempt_that_fits_stays_whole(words: int) -> None:
    attempt = "it is 2 " * words
    assert (fit_attempt(CHAT, ROLE, attempt, conversation) == attempt) == (length(attempt) + 2 * 100 <= 1024)


@pytest.mark.parametrize(("max_tokens", "room"), [(100, 200), (256, 512), (4096, 512)])
def test_a_long_attempt_loses_its_end_until_there_is_just_room_for_critique_and_refinement(max_tokens: int, room: int) -> None:
    """Room for all that may be generated, at most a quarter of the context for each of the two."""
    attempt = "π is 3.14159, " * 400
    role = ROLE.model_copy(update={"sampling": SamplingConfig(max_tokens=max_tokens)})
    fitted = fit_attempt(CHAT, role, attempt, conversation)
    assert attempt.startswith(fitted)
    assert 1024 - room - 8 <= length(fitted) <= 1024 - room


def test_where_nothing_can_help_the_attempt_is_empty() -> None:
    def long_question(attempt: str) -> Sequence[Message]:
        return PROMPTS.refine_messages("What is 1 + 1? " * 2000, attempt, "")

    assert fit_attempt(CHAT, ROLE, "it is 3", long_question) == ""


def test_without_a_tokenizer_the_attempt_stays_whole() -> None:
    assert fit_attempt(None, ROLE, "it is 2 " * 5000, conversation) == "it is 2 " * 5000
