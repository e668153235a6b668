"""The marks between which reasoning models think, and which of them a model uses when its settings name none.

Thoughts are no part of an answer: other models do not see them, and they are not trained. So a model whose template or vocabulary has
marks of a known family is read with these, and so is an answer of an endpoint, whose template is not here.
How to use: `settled_thinking(role.thinking, template, has_token)`.
"""

from collections.abc import Callable

from cgd_ray.config.roles import ThinkingConfig

FAMILIES: dict[str, ThinkingConfig] = {
    "DeepSeek-R1, Qwen3, QwQ, GLM, MiniMax, Nemotron, OLMo and most others": ThinkingConfig(start="<think>", end="</think>"),
    "Seed-OSS": ThinkingConfig(start="<seed:think>", end="</seed:think>"),
    "Magistral": ThinkingConfig(start="[THINK]", end="[/THINK]"),
    "Command A": ThinkingConfig(start="<|START_THINKING|>", end="<|END_THINKING|>"),
    "MiniMax-M3": ThinkingConfig(start="<mm:think>", end="</mm:think>"),
    "Kimi": ThinkingConfig(start="◁think▷", end="◁/think▷"),
    "gpt-oss": ThinkingConfig(start="<|channel|>analysis<|message|>", end="<|channel|>final<|message|>"),
    "Gemma 4": ThinkingConfig(start="<|channel>thought", end="<channel|>"),
}
"""As vLLM's reasoning parsers have them. gpt-oss begins an answer without a thought with the same mark that ends one."""


def settled_thinking(thinking: ThinkingConfig | None, template: str, has_token: Callable[[str], bool]) -> ThinkingConfig | None:
    """The marks between which a model thinks: those of its settings, else those of the family that its template or vocabulary has.

    None where there are none, or where thoughts are to stay in the text.
    """
    if thinking is not None:
        return thinking if thinking.separate else None
    in_template = (marks for marks in FAMILIES.values() if marks.start in template or marks.end in template)
    in_vocabulary = (marks for marks in FAMILIES.values() if has_token(marks.start) and has_token(marks.end))
    return next(in_template, None) or next(in_vocabulary, None)


def marks_in(text: str) -> ThinkingConfig | None:
    """The marks of the family whose thought a text begins with, or ends where the prompt has begun it; None for an answer alone."""
    return next((marks for marks in FAMILIES.values() if _begins_with_thought(text, marks)), None)


def _begins_with_thought(text: str, marks: ThinkingConfig) -> bool:
    return text.lstrip().startswith(marks.start) or (marks.end in text and marks.start not in text)
