"""Messages -> token ids as the model is served them; what data contains never becomes a control token.

The ids of a conversation are those of apply_chat_template, wherever its data holds no control token's name (control.py for where it does).
A training example is the prompt exactly as at inference, then what the model has to write itself: loss masks come from the prompt's
length, never from searching text (the hazard: OWASP AISVS discussion 930).
How to use: `chat = Chat.of(role)`; `chat.prompt(messages).input_ids`; `chat.example(messages, target)`.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgd_ray.config.roles import RoleConfig, ThinkingConfig
from cgd_ray.data.control import ControlTokens
from cgd_ray.data.prompts import Message
from cgd_ray.data.template import ChatTemplate
from cgd_ray.data.thoughts import settled_thinking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DECODING_CONTEXT = 16
"""Tokens of a prompt that its answer is decoded with."""
NEIGHBOURS = ("\n", "a")
"""What a text may follow so that it is tokenised as the middle of one; one of them is never merged with it."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as text and tokens."""

    text: str
    """What the template wrote, with control tokens' names in data hidden."""
    input_ids: list[int]
    """[T] token ids."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training sequence: a prompt and the target that follows it."""

    input_ids: list[int]
    """[T] prompt, target, end token."""
    prompt_length: int
    """Loss on input_ids[prompt_length:] and nowhere else; the end token is trained."""


class Chat:
    """One model's chat template and tokenizer."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        template_kwargs: Mapping[str, Any] | None = None,
        thinking: ThinkingConfig | None = None,
        template_file: str | None = None,
    ) -> None:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ValueError(f"tokenizer of {tokenizer.name_or_path} has no tokenizer.json (fast tokenizer); convert it first")
        self.tokenizer = tokenizer
        name = tokenizer.name_or_path if template_file is None else f"{tokenizer.name_or_path} (chat_template {template_file})"
        self._template = ChatTemplate(tokenizer, template_kwargs or {}, name)
        source, backend = tokenizer.get_chat_template(), tokenizer.backend_tokenizer
        self.thinking = settled_thinking(thinking, source, lambda mark: backend.token_to_id(mark) is not None)
        """The marks of a thought, which is no part of an answer; None for models that do not think."""
        marks = set() if self.thinking is None else {self.thinking.start, self.thinking.end}
        self._control = ControlTokens(tokenizer, source, visible=marks)
        self._special = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items() if token.special}

    @property
    def control_ids(self) -> Set[int]:
        """Special tokens, and other added ones that the template marks turns with."""
        return self._control.ids

    @classmethod
    def of(cls, role: RoleConfig) -> "Chat":
        """Load what a role's settings say."""
        return cls.load(role.model, role.chat_template_kwargs, role.chat_template, role.thinking)

    @classmethod
    def load(
        cls,
        model: str,
        template_kwargs: Mapping[str, Any] | None = None,
        template_file: str | None = None,
        thinking: ThinkingConfig | None = None,
    ) -> "Chat":
        """Load from a model directory or hub name, with the chat template of a file when the model has none.

        Raises ValueError when there is no tokenizer or no chat template, or when the model has another one than the file.
        """
        from transformers import AutoTokenizer

        if Path(model).is_dir() and not (Path(model) / "tokenizer_config.json").is_file():
            raise ValueError(f"model {model} has no tokenizer (tokenizer_config.json is missing); save one beside the weights")
        try:
            tokenizer = AutoTokenizer.from_pretrained(model)
        except Exception as error:  # the library for tokenizers raises nothing more special
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"model {model} has no loadable tokenizer: {reason}") from None
        if template_file is not None:
            _add_template(tokenizer, model, Path(template_file))
        if tokenizer.chat_template is None:
            raise ValueError(
                f"model {model} has no chat template; add chat_template.jinja beside its tokenizer or set chat_template to such a file"
            )
        return cls(tokenizer, template_kwargs, thinking, template_file)

    @property
    def end_token_id(self) -> int:
        """The token that ends an assistant's turn: it is trained, and generation stops at it."""
        end = self._control.first(self._template.pieces(["user", "assistant"], invite=False)[-1])
        return self._eos() if end is None else self._control.id_of(end.group())

    def prompt(self, messages: Sequence[Message]) -> Rendered:
        """The conversation so far, followed by the template's invitation to answer."""
        return self._prompt(self._hidden(messages))

    def invitation(self, messages: Sequence[Message]) -> str:
        """The template's own text after the last message, in which it may have begun the answer."""
        return self._template.pieces([message.role for message in messages], invite=True)[-1]

    def opens_thought(self, messages: Sequence[Message]) -> bool:
        """Whether the invitation writes the start of a thought itself, so that the model goes on inside it."""
        return self.thinking is not None and self.invitation(messages).rstrip().endswith(self.thinking.start)

    def example(self, messages: Sequence[Message], target: str) -> Example:
        """What the model sees at inference, then what it has to write: the target as the template shows answers, and the end token.

        What the template writes between its invitation and an answer is the model's own to write at inference, so it is trained too: a
        space, the end of a thought, an empty thought.
        """
        prompt, text, ending = self._answered(messages, target)
        input_ids = [*prompt.input_ids, *self._continuation(prompt.text, text + ending), *([] if ending else [self._eos()])]
        return Example(input_ids=input_ids, prompt_length=len(prompt.input_ids))

    def begun(self, messages: Sequence[Message], beginning: str) -> list[int]:
        """The prompt's tokens and those of an answer's beginning, which the model is to go on with."""
        prompt, text, _ = self._answered(messages, beginning)
        return [*prompt.input_ids, *self._continuation(prompt.text, text)]

    def encode(self, text: str) -> list[int]:
        """Tokenise data: never yields a control token. Raises ValueError for text that is not valid Unicode."""
        return list(self._control.encode(self._control.hide(text)).ids)

    def decode_answer(self, prompt: Sequence[int], answer: Sequence[int], shown: Set[int] = frozenset()) -> str:
        """What an answer's tokens say after their prompt, without a character that was cut and without special tokens but those `shown`.

        Some decoders treat the first token of all in another way (no space before the first word), hence the end of the prompt.
        """
        decoder, hidden = self.tokenizer.backend_tokenizer, self._special.keys() - shown

        def text_of(ids: Sequence[int]) -> str:
            return str(decoder.decode([token for token in ids if token not in hidden], skip_special_tokens=False))

        context = prompt[-DECODING_CONTEXT:]
        before, together = text_of(context), text_of([*context, *answer])
        text = together.removeprefix(before) if together.startswith(before) else text_of(answer)
        return text.rstrip("\ufffd")

    def special_ids_in(self, text: str) -> Set[int]:
        """The special tokens that a text holds."""
        return frozenset(token for token, content in self._special.items() if content in text)

    def without_end(self, text: str, num_tokens: int) -> str:
        """The text without its last tokens, at most all of them; cut between characters."""
        offsets = self._control.encode(self._control.hide(text)).offsets
        kept = len(offsets) - num_tokens
        if num_tokens == 0 or kept <= 0:
            return "" if num_tokens else text
        return text[: min(offsets[kept - 1][1], offsets[kept][0])]  # one character may be several tokens

    def count_control_tokens(self, input_ids: Sequence[int]) -> int:
        """How many of the ids are control tokens."""
        return sum(token in self.control_ids for token in input_ids)

    def _hidden(self, messages: Sequence[Message]) -> list[Message]:
        return [Message(role=message.role, content=self._control.hide(message.content)) for message in messages]

    def _prompt(self, messages: Sequence[Message]) -> Rendered:
        text = self._template.render(messages, invite=True)
        return Rendered(text=text, input_ids=list(self._control.encode(text).ids))

    def _answered(self, messages: Sequence[Message], answer: str) -> tuple[Rendered, str, str]:
        """The prompt, the text that follows it, and the control token that ends the turn, empty where the template writes none."""
        *asked, turn = self._hidden([*messages, Message(role="assistant", content=answer)])
        prompt = self._prompt(asked)
        *_, before, tail = self._template.pieces([message.role for message in (*asked, turn)], invite=False)
        end = self._control.first(tail)
        return prompt, self._answer(prompt.text, asked, turn, before, tail), "" if end is None else tail[: end.end()]

    def _answer(self, prompt: str, messages: Sequence[Message], answer: Message, before: str, tail: str) -> str:
        """The text that follows a prompt's, up to the end of the turn; the template writes `before` an answer and `tail` after it."""
        invitation = self.invitation(messages)
        if not self._is_the_models_own(before, invitation):
            closing = f"\n{self.thinking.end}\n\n" if self.thinking is not None and self.opens_thought(messages) else ""
            return closing + answer.content
        if self._may_be_changed(answer.content):
            whole = self._template.render([*messages, answer], invite=False)
            if whole.startswith(prompt) and whole.endswith(tail):
                return whole[len(prompt) : len(whole) - len(tail)]
        return before[len(invitation) :] + answer.content

    def _is_the_models_own(self, before: str, invitation: str) -> bool:
        """Whether the template's text before an answer is its invitation and then what would not be read as part of an answer."""
        if not before.startswith(invitation):
            return False
        lead = before[len(invitation) :].strip()
        return not lead or (self.thinking is not None and lead.endswith(self.thinking.end))

    def _may_be_changed(self, answer: str) -> bool:
        """Whether an answer has what templates trim or take out; others are spared a rendering."""
        return answer != answer.strip() or (self.thinking is not None and self.thinking.end in answer)

    def _continuation(self, prompt: str, answer: str) -> list[int]:
        """The tokens that follow a prompt's; one that would be merged with the prompt's last is not, since the model cannot do that."""
        context = self._control.from_last(prompt)
        before, whole = self._control.short_ids(context), self._control.encode(context + answer).ids
        if whole[: len(before)] == before:
            return list(whole[len(before) :])
        for neighbour in NEIGHBOURS:
            encoding = self._control.encode(neighbour + answer)
            first = next((index for index, (start, _) in enumerate(encoding.offsets) if start >= len(neighbour)), None)
            if first and encoding.offsets[first - 1][1] <= len(neighbour):
                return list(encoding.ids[first:])
        return list(self._control.encode(answer).ids)

    def _eos(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise ValueError(f"tokenizer of {self.tokenizer.name_or_path} has no token that ends a turn; set its eos_token")
        return int(self.tokenizer.eos_token_id)


def _add_template(tokenizer: "PreTrainedTokenizerBase", model: str, file: Path) -> None:
    """Give a tokenizer without chat template the one of a file, which a trained model's directory may hold already."""
    if not file.is_file():
        raise ValueError(f"chat_template {file} does not exist; give a .jinja file or null")
    try:
        template = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"chat_template {file} is no text in UTF-8; save it as such") from None
    if tokenizer.chat_template not in (None, template):
        raise ValueError(f"model {model} has a chat template of its own, other than chat_template {file}; set chat_template to null")
    tokenizer.chat_template = template
