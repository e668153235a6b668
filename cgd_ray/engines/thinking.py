"""Keeps what a reasoning model thought apart from its answer.

A thought is no part of an answer: the other model does not see it and nobody is trained on it. One that never ends is a cut answer.
How to use: `answered(generation, engine.chat, role, messages)`.
"""

from collections.abc import Sequence

from cgd_ray.config import RoleConfig, ThinkingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message
from cgd_ray.data.records import CUT
from cgd_ray.data.thoughts import marks_in
from cgd_ray.engines.engine import Generation


def answered(generation: Generation, chat: Chat | None, role: RoleConfig, messages: Sequence[Message]) -> tuple[str, str | None, str]:
    """(answer, thinking, finish reason) of a generation that follows these messages.

    Without a chat, which an endpoint keeps to itself, the marks are those of the settings or else those that the text shows.
    """
    if chat is None:
        marks = marks_in(generation.text) if role.thinking is None else role.thinking
        return separate_thinking(generation, marks if marks is not None and marks.separate else None, is_open=False)
    return separate_thinking(generation, chat.thinking, chat.opens_thought(messages))


def separate_thinking(generation: Generation, marks: ThinkingConfig | None, is_open: bool) -> tuple[str, str | None, str]:
    """(answer, thinking, finish reason); `is_open` where the prompt has begun the thought, so that its start is not in the text."""
    if marks is None or generation.thinking is not None:
        return generation.text, generation.thinking, generation.finish_reason
    text = marks.start + generation.text if is_open else generation.text
    thinking, found, answer = text.rpartition(marks.end)
    if found:
        return answer.strip(), thinking.strip().removeprefix(marks.start).strip(), generation.finish_reason
    if marks.start in text:
        return "", text.partition(marks.start)[2].strip(), generation.finish_reason if generation.finish_reason in CUT else "length"
    return text, None, generation.finish_reason
