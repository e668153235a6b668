"""Messages -> text, by a model's own chat template; every fault of a template is one line that names it.

The template sees the messages as it does when the model is served, so what it trims or takes out of them is the same in training. Its
clock stands still: one that writes the day would else make training, evaluation and a resumed run differ.
How to use: `ChatTemplate(tokenizer, template_kwargs, name).render(messages, invite=True)`.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cgd_ray.data.prompts import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLOCK = "strftime_now"
"""The function by which templates ask for the day."""
PINNED_DAY = datetime(2024, 7, 26)
"""What it tells: the day that Llama's templates name when they have no clock."""


class ChatTemplate:
    """One model's chat template with its arguments."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, Any], name: str) -> None:
        self._tokenizer, self._name = tokenizer, name
        self._arguments = {CLOCK: PINNED_DAY.strftime, **template_kwargs}
        self._pieces: dict[tuple[tuple[str, ...], bool], list[str]] = {}

    def render(self, messages: Sequence[Message], invite: bool) -> str:
        """The conversation as text, with the invitation to answer if `invite`.

        Raises ValueError where the template fails, or would not show each message once and in order.
        """
        self.pieces([message.role for message in messages], invite)
        return self._applied([{"role": message.role, "content": message.content} for message in messages], invite)

    def pieces(self, roles: Sequence[str], invite: bool) -> list[str]:
        """The template's own text before, between and after messages of these roles; asked once per sequence of roles."""
        key = (tuple(roles), invite)
        if key not in self._pieces:
            self._pieces[key] = self._cut_at_messages(roles, invite)
        return self._pieces[key]

    def _cut_at_messages(self, roles: Sequence[str], invite: bool) -> list[str]:
        marks = [f"message{index}x{uuid.uuid4().hex}" for index in range(len(roles))]
        text = self._applied([{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)], invite)
        rest, pieces = text, []
        for mark in marks:
            before, found, rest = rest.partition(mark)
            if not found or text.count(mark) > 1:
                raise ValueError(f"chat template of {self._name} drops, moves or repeats a message ({list(roles)}); {_remedy(roles)}")
            pieces.append(before)
        return [*pieces, rest]

    def _applied(self, turns: list[dict[str, str]], invite: bool) -> str:
        from jinja2 import TemplateError

        try:
            return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=invite, **self._arguments))
        except Exception as error:  # a template is a program: it may fail in any way
            roles = [turn["role"] for turn in turns]
            reason = " ".join((str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}").split())
            raise ValueError(f"chat template of {self._name} refuses the roles {roles}: {reason}; {_remedy(roles)}") from None


def _remedy(roles: Sequence[str]) -> str:
    if "system" in roles:
        return (
            "where it knows no system message, take a set of prompts without one (default, llama3, small), or set student_system or "
            "teacher_system to null in a file of your own and say the same in the first user message (solve, critique)"
        )
    return "check chat_template_kwargs, or use a model with another one"
