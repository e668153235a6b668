"""A row's whole conversation as text for the terminal: each prompt as the model gets it, each answer, what it counts and how it was judged.

Prompts are decoded from the token ids that the model is given, so a doubled BOS, a system message that nobody asked for or a template that
drops a turn can be seen. How to use: `write(Transcript(config).row(row, "1 of 5"))`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

from cgd_ray.config import Config, RoleConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message, load_prompts
from cgd_ray.data.records import TURNS, TURNS_OF_ROLE, Turn
from cgd_ray.engines.fitting import fit_attempt
from cgd_ray.reporting.inspection import CONTROL_CHARACTERS

Row = Mapping[str, Any]
"""Of RECORD_SCHEMA or SELECTED_SCHEMA."""

ALL_TURNS: tuple[Turn, ...] = (*TURNS, "direct")
OPENING, CLOSING = "⟪", "⟫"
LEGEND = f"{OPENING} {CLOSING} enclose the chat template's control tokens; the same words without them are data.\n"
MARGIN = "    "
JUDGEMENTS = {True: "right", False: "wrong", None: "not graded"}


class Transcript:
    """Shows rows as the models of a config have seen them."""

    def __init__(self, config: Config) -> None:
        """Tokenizers are loaded when the first prompt is shown."""
        self._config, self._prompts = config, load_prompts(config.prompts)

    def row(self, row: Row, heading: str) -> str:
        """All turns of a row, and what became of it."""
        title = f"── {heading}: problem {row['problem_id']}, record {row['record_id']} "
        failed_in = (row["error"] or "").partition(":")[0]
        shown = [turn for turn in ALL_TURNS if row.get(turn) is not None or turn == failed_in]
        turns = [line for turn in shown for line in self._turn(row, turn)]
        return "\n".join([_visible(title).ljust(100, "─"), *turns, *_outcome(row), ""]) + "\n"

    def prompt(self, row: Row, turn: Turn) -> str:
        """What a model is given for a turn, or the messages where only an endpoint has the template.

        Of a refinement's only what follows the critique's prompt, since the conversation goes on from there.
        """
        role, chat = self._role(turn), self._chat(turn)
        messages = self._messages(row, turn)
        if chat is None:
            new = messages[len(self._messages(row, "critique")) :] if turn == "refinement" else messages
            return "\n".join(f"{OPENING}{message.role}{CLOSING} {_visible(message.content)}" for message in new)
        ids = chat.prompt(messages).input_ids
        if turn == "refinement":
            before = chat.prompt(self._messages(row, "critique")).input_ids
            ids = ids[len(before) :] if ids[: len(before)] == before else ids
        assert role.api is None, "an endpoint has its own tokenizer"
        return decoded(chat, ids)

    def _turn(self, row: Row, turn: Turn) -> Iterator[str]:
        name = "student" if turn in TURNS_OF_ROLE["student"] else "teacher"
        after = ", after its critique" if turn == "refinement" else ""
        yield f"\n{turn}: what the {name} is given{after}"
        yield _indented(self.prompt(row, turn))
        if row[turn] is None:
            return
        if row[f"{turn}_thinking"] is not None:
            yield f"\n{turn}: what the {name} thought"
            yield _indented(_visible(row[f"{turn}_thinking"]))
        cut = {"length": ", cut by its limit", "repetition": ", ended since it repeats itself"}.get(row[f"{turn}_finish_reason"], "")
        counts = f"{row[f'{turn}_prompt_tokens']:,} tokens in, {row[f'{turn}_tokens']:,} out{cut}"
        yield f"\n{turn}: what the {name} answered; {counts}{_judged(row, turn)}"
        yield _indented(_visible(row[turn]))

    def _messages(self, row: Row, turn: Turn) -> Sequence[Message]:
        """The conversation that a turn continues, as generation/stages.py makes it; the critique that it goes on after is above."""
        prompts, question = self._prompts, row["question"]
        if turn == "attempt":
            return prompts.solve_messages(question, prompts.student_system)
        if turn == "direct":
            return prompts.solve_messages(question, prompts.teacher_system)
        attempt = fit_attempt(
            self._chat(turn), self._config.teacher, row["attempt"], lambda shown: prompts.refine_messages(question, shown, critique="")
        )
        if turn == "critique":
            return prompts.critique_messages(question, attempt)
        return prompts.refine_messages(question, attempt, row["critique"])

    def _role(self, turn: Turn) -> RoleConfig:
        return self._config.student if turn in TURNS_OF_ROLE["student"] else self._config.teacher

    def _chat(self, turn: Turn) -> Chat | None:
        return self._student_chat if turn in TURNS_OF_ROLE["student"] else self._teacher_chat

    @cached_property
    def _student_chat(self) -> Chat:
        return Chat.of(self._config.student)

    @cached_property
    def _teacher_chat(self) -> Chat | None:
        return None if self._config.teacher.api is not None else Chat.of(self._config.teacher)


def decoded(chat: Chat, ids: Sequence[int]) -> str:
    """Tokens as text, those of the template that control the model between marks."""
    text = ""
    for is_control, run in groupby(ids, key=lambda token: token in chat.control_ids):
        for tokens in [[token] for token in run] if is_control else [list(run)]:
            piece = _visible(str(chat.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)))
            text += f"{OPENING}{piece}{CLOSING}" if is_control else piece
    return text


def _judged(row: Row, turn: Turn) -> str:
    if turn == "critique":
        return f"; verdict: {row['verdict'] or 'missing'}"
    grade = f"{turn}_correct"
    return f"; {JUDGEMENTS[row[grade]]}, the reference answer is {_visible(str(row['reference_answer']))}" if grade in row else ""


def _outcome(row: Row) -> Iterator[str]:
    """What became of the row."""
    if row["error"] is not None:
        yield f"\nfailed: {_visible(row['error'])}"
    elif row.get("drop_reason") is not None:
        yield f"\nnot trained on: {row['drop_reason']}"
    if row.get("leaks"):
        yield f"\nleaks: {', '.join(row['leaks'])}"


def _indented(text: str) -> str:
    return "\n".join(MARGIN + line for line in text.splitlines()) or MARGIN


def _visible(text: str) -> str:
    """Control characters as codes, so that a text cannot steer the terminal."""
    return CONTROL_CHARACTERS.sub(lambda found: f"\\x{ord(found.group()):02x}", text)
