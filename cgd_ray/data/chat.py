"""Messages -> token ids and the span of every message; what data contains never becomes a control token.

The chat template only ever sees placeholders, so it is rendered once per sequence of roles; the text between the placeholders is
tokenised with control tokens, the messages themselves by a copy of the tokenizer that has no added tokens, and the two are spliced.
Loss masks come from the resulting spans, never from searching text (the hazard: OWASP AISVS discussion 930, transformers#48052).
How to use: `chat = Chat.load(model_directory); chat.prompt(messages).input_ids`.
"""

import json
import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgd_ray.data.prompts import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DECODING_CONTEXT = 16
"""Tokens of a prompt that its answer is decoded with."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as tokens."""

    input_ids: list[int]
    """[T] token ids."""
    spans: list[tuple[int, int]]
    """[start, end) of each message's own text, in the order of the messages."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training sequence: a prompt and the target that follows it."""

    input_ids: list[int]
    """[T] prompt, target, end token."""
    prompt_length: int
    """Loss on input_ids[prompt_length:] and nowhere else; the end token is trained."""


class Chat:
    """One model's chat template and tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        self._template_kwargs = dict(template_kwargs or {})
        self._data_encoder = _encoder_without_added_tokens(tokenizer)
        self.control_ids = frozenset(tokenizer.get_added_vocab().values()) | frozenset(tokenizer.all_special_ids)
        self._scaffolds: dict[tuple[tuple[str, ...], bool], list[list[int]]] = {}
        self._special = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        for text in self._special.values():
            if not self._special.keys().isdisjoint(self.encode(text)):  # Unigram vocabularies match their control tokens in plain text
                raise ValueError(f"tokenizer of {tokenizer.name_or_path} takes the text {text} for its control token; use another model")

    @classmethod
    def load(cls, model: str, template_kwargs: Mapping[str, Any] | None = None, template_file: str | None = None) -> "Chat":
        """Load from a model directory or hub name, with the chat template of a file when the model has none.

        Raises ValueError when there is no tokenizer or no chat template, or when the model has another one than the file.
        """
        from transformers import AutoTokenizer

        if Path(model).is_dir() and not (Path(model) / "tokenizer_config.json").is_file():
            raise ValueError(f"model {model} has no tokenizer (tokenizer_config.json is missing); save one beside the weights")
        try:
            tokenizer = AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise ValueError(f"model {model} has no loadable tokenizer: {str(error).splitlines()[0]}") from None
        if template_file is not None:
            _add_template(tokenizer, model, Path(template_file))
        if tokenizer.chat_template is None:
            raise ValueError(
                f"model {model} has no chat template; add chat_template.jinja beside its tokenizer or set chat_template to such a file"
            )
        return cls(tokenizer, template_kwargs)

    @property
    def end_token_id(self) -> int:
        """The token that ends an assistant's turn: it is trained, and generation stops at it."""
        return self._end_of_turn(["user", "assistant"])[-1]

    def prompt(self, messages: Sequence[Message]) -> Rendered:
        """The conversation so far, followed by the template's invitation to answer."""
        return self._render(messages, invite=True)

    def invitation(self, messages: Sequence[Message]) -> str:
        """The template's own text after the last message, in which it may have begun the answer."""
        return str(self.tokenizer.decode(self._scaffold([message.role for message in messages], invite=True)[-1]))

    def example(self, messages: Sequence[Message], target: str) -> Example:
        """What the model sees at inference, then the target and the token that ends a turn."""
        prompt = self.prompt(messages).input_ids
        roles = [*(message.role for message in messages), "assistant"]
        return Example(input_ids=[*prompt, *self.encode(target), *self._end_of_turn(roles)], prompt_length=len(prompt))

    def encode(self, text: str) -> list[int]:
        """Tokenise data: never yields a control token. Raises ValueError for text that is not valid Unicode."""
        try:
            return list(self._data_encoder.encode(text, add_special_tokens=False).ids)
        except (UnicodeEncodeError, TypeError):
            raise ValueError("text holds a lone surrogate, which is not valid Unicode; clean the source") from None

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
        """The text without its last tokens; cut back to whole characters."""
        kept = self.encode(text)[:-num_tokens] if num_tokens else self.encode(text)
        return str(self._data_encoder.decode(kept, skip_special_tokens=False)).rstrip("\ufffd")

    def count_control_tokens(self, input_ids: Sequence[int]) -> int:
        """How many of the ids are added or special tokens."""
        return sum(token in self.control_ids for token in input_ids)

    def _render(self, messages: Sequence[Message], invite: bool) -> Rendered:
        scaffold = self._scaffold([message.role for message in messages], invite)
        input_ids, spans = list(scaffold[0]), []
        for message, following in zip(messages, scaffold[1:], strict=True):
            content = self.encode(message.content)
            spans.append((len(input_ids), len(input_ids) + len(content)))
            input_ids += [*content, *following]
        return Rendered(input_ids=input_ids, spans=spans)

    def _end_of_turn(self, roles: Sequence[str]) -> list[int]:
        """Tokens from the end of an assistant's text up to and including the first control token."""
        tail = self._scaffold(roles, invite=False)[-1]
        for index, token in enumerate(tail):
            if token in self.control_ids:
                return tail[: index + 1]
        if self.tokenizer.eos_token_id is None:
            raise ValueError(f"tokenizer of {self.tokenizer.name_or_path} has no token that ends a turn; set its eos_token")
        return [int(self.tokenizer.eos_token_id)]

    def _scaffold(self, roles: Sequence[str], invite: bool) -> list[list[int]]:
        """Token ids of the template's own text before, between and after the messages; rendered once per sequence of roles."""
        key = (tuple(roles), invite)
        if key not in self._scaffolds:
            self._scaffolds[key] = [
                list(self.tokenizer.encode(piece, add_special_tokens=False)) if piece else []
                for piece in self._template_pieces(roles, invite)
            ]
        return self._scaffolds[key]

    def _template_pieces(self, roles: Sequence[str], invite: bool) -> list[str]:
        from jinja2 import TemplateError

        marks = [f"message{index}x{uuid.uuid4().hex}" for index in range(len(roles))]
        turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=invite, **self._template_kwargs)
        except TemplateError as error:
            raise ValueError(f"chat template of {self.tokenizer.name_or_path} refuses the roles {list(roles)}: {error}") from None
        rest, pieces = text, []
        for mark in marks:
            before, found, rest = rest.partition(mark)
            if not found or text.count(mark) > 1:
                raise ValueError(
                    f"chat template of {self.tokenizer.name_or_path} drops, moves or repeats a message ({list(roles)}); use another one"
                )
            pieces.append(before)
        return [*pieces, rest]


def _add_template(tokenizer: "PreTrainedTokenizerBase", model: str, file: Path) -> None:
    """Give a tokenizer without chat template the one of a file, which a trained model's directory may hold already."""
    if not file.is_file():
        raise ValueError(f"chat_template {file} does not exist; give a .jinja file or null")
    template = file.read_text(encoding="utf-8")
    if tokenizer.chat_template not in (None, template):
        raise ValueError(f"model {model} has a chat template of its own, other than chat_template {file}; set chat_template to null")
    tokenizer.chat_template = template


def _encoder_without_added_tokens(tokenizer: "PreTrainedTokenizerBase") -> Any:
    """A tokenizers.Tokenizer with the same vocabulary and merges that knows no added token."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"tokenizer of {tokenizer.name_or_path} has no tokenizer.json (fast tokenizer); convert it first")
    tree = json.loads(backend.to_str())
    tree |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(tree))
