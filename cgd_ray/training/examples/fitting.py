"""Makes an example fit the context: the end of the attempt goes first, the critique and the target are never cut.

A shortened refinement would teach the student to stop early, a shortened critique to guess; a shortened attempt only shows less of what
went wrong. How to use: `fitted = fit(row, "cgd", prompts, chat, training.context_length)`; None when it does not fit even without attempt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import Prompts
from cgd_ray.training.examples.arms import ARMS, REQUIRED_COLUMNS, ArmExample


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An example that fits."""

    conversation: ArmExample
    example: Example
    attempt_tokens_cut: int
    """Tokens taken from the end of the attempt; 0 for a whole example."""


def fit(row: Mapping[str, Any], arm: str, prompts: Prompts, chat: Chat, context_length: int) -> Fitted | None:
    """The arm's example of a record in at most context_length tokens, or None."""
    fitted = _made(row, arm, prompts, chat)
    if len(fitted.example.input_ids) > context_length and not _fits_without_attempt(row, arm, prompts, chat, context_length):
        return None
    while (excess := len(fitted.example.input_ids) - context_length) > 0:  # again when the cut text has other tokens at its end
        cut = fitted.attempt_tokens_cut + excess
        fitted = _made({**row, "attempt": chat.without_end(row["attempt"], cut)}, arm, prompts, chat, cut)
    return fitted


def _fits_without_attempt(row: Mapping[str, Any], arm: str, prompts: Prompts, chat: Chat, context_length: int) -> bool:
    if "attempt" not in REQUIRED_COLUMNS[arm]:
        return False
    return len(_made({**row, "attempt": ""}, arm, prompts, chat).example.input_ids) <= context_length


def _made(row: Mapping[str, Any], arm: str, prompts: Prompts, chat: Chat, attempt_tokens_cut: int = 0) -> Fitted:
    conversation = ARMS[arm](row, prompts)
    example = chat.example(conversation.messages, conversation.target)
    return Fitted(conversation=conversation, example=example, attempt_tokens_cut=attempt_tokens_cut)
