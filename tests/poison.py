"""Questions that have broken pipelines, by what is wrong with them; every one is valid Unicode, so that Parquet can hold it."""

from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts


def question_of(num_tokens: int, chat: Chat, number: int) -> str:
    """A question whose whole prompt has so many tokens; `number` tells apart those of the same length."""

    def length(question: str) -> int:
        return len(chat.prompt(Prompts().solve_messages(question, None)).input_ids)

    question = f"What is {number}?"
    question += " 1" * ((num_tokens - length(question)) // (length(question + " 1") - length(question)))
    while length(question) < num_tokens:
        question += "."
    assert length(question) == num_tokens, f"{length(question)} tokens instead of {num_tokens}"
    return question


def odd_questions(chat: Chat) -> dict[str, str]:
    """What must go through like any other question."""
    odd = {"empty": "", "spaces": " \n\t ", "NUL": "What is 1 \x00 + 1?", "controls": "What\x01 is\x1b[31m 1\u2028 + \ufeff1\uffff?"}
    return odd | {f"the text {token}": f"What is 1 {token} + 1?" for token in chat.tokenizer.get_added_vocab()}


def over_long_questions(chat: Chat, context_length: int) -> dict[str, str]:
    """What leaves no room for an answer."""
    return {
        "1 MB": "very " * (2**20 // 5),
        "context": question_of(context_length, chat, number=2),
        "context + 1": question_of(context_length + 1, chat, number=3),
    }
