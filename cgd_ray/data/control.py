"""Text -> token ids in which control tokens come from the chat template alone, whatever data holds.

Where data holds no control token's name, the whole text goes through the model's own tokenizer and has the ids of apply_chat_template.
Where it does, the name is hidden from template and tokenizer behind an unguessable word, the template's own control tokens get other
names, and a copy of the tokenizer that knows only these reads the whole: every rule for spaces and neighbours acts as in the original,
and no text of data is a control token to it (transformers#48052 tells what happens otherwise).
How to use: `control.encode(template_text(control.hide(data))).ids`.
"""

import json
import re
import uuid
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

FOREIGN_LETTERS = "＜Ａ"
"""Full-width letters: a normalizer that changes them can turn data without a control token's name into one."""

NEAR_END = 256  # characters, which mostly hold the last control token
MOST_KNOWN = 64  # texts whose ids are kept


class ControlTokens:
    """The control tokens of one tokenizer, and the tokenizer itself."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", template: str, visible: Collection[str]) -> None:
        """`template` is the chat template's source; `visible` names tokens that data may hold, such as the marks of a thought."""
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        self._backend: Tokenizer = backend
        written: dict[str, int] = {
            str(token): index
            for index, token in tokenizer.added_tokens_decoder.items()
            if token.special or (_is_mark(str(token)) and str(token) in template and str(token) not in visible)
        }
        self.ids = frozenset(written.values()) | frozenset(tokenizer.all_special_ids)
        self._named = written
        self._pattern = re.compile("|".join(map(re.escape, sorted(written, key=len, reverse=True))) or "(?!)")
        self._first_letters = frozenset(name[0] for name in written)
        self._key = uuid.uuid4().hex
        self._hidden = {name: f"data{self._key}x{index}x" for name, index in written.items()}
        self._shown = {name: f"control{self._key}x{index}x" for name, index in written.items()}
        self._names = {word: name for name, word in self._hidden.items()}
        self._hidden_word = re.compile(f"data{self._key}x[0-9]+x")
        self._known: dict[str, list[int]] = {}
        normalizer = backend.normalizer
        self._always_apart = normalizer is not None and FOREIGN_LETTERS not in normalizer.normalize_str(FOREIGN_LETTERS)

    def hide(self, data: str) -> str:
        """Data in which no control token's name is left; encode() puts the names back as text."""
        if not any(letter in data for letter in self._first_letters):  # spares most data a search
            return data
        return self._pattern.sub(lambda found: self._hidden[found.group()], data)

    def first(self, text: str) -> re.Match[str] | None:
        """The first control token in text of the template."""
        return self._pattern.search(text)

    def from_last(self, text: str) -> str:
        """The end of a text from its last control token on, which is tokenised alike alone; all of it where it has none."""
        for end in (text[-NEAR_END:], text):
            if starts := [found.start() for found in self._pattern.finditer(end)]:
                return end[starts[-1] :]
        return text

    def id_of(self, name: str) -> int:
        """The id of a control token."""
        return self._named[name]

    def encode(self, text: str) -> "Encoding":
        """Tokenise a template's text with hidden data in it. Raises ValueError for text that is not valid Unicode."""
        backend = self._backend
        if self._always_apart or self._key in text:
            text = self._pattern.sub(lambda found: self._shown[found.group()], text)
            text = self._hidden_word.sub(lambda found: self._names[found.group()], text)
            backend = self._renamed
        try:
            return backend.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            raise ValueError("text holds a lone surrogate, which is not valid Unicode; clean the source") from None

    def short_ids(self, text: str) -> list[int]:
        """The ids of a text that comes again and again, such as an invitation."""
        if text not in self._known:
            if len(self._known) == MOST_KNOWN:
                self._known.clear()
            self._known[text] = list(self.encode(text).ids)
        return self._known[text]

    @cached_property
    def _renamed(self) -> "Tokenizer":
        """The tokenizer with its control tokens under names that no data can hold; made when the first data wants it."""
        from tokenizers import Tokenizer

        tree = json.loads(self._backend.to_str())
        for token in tree["added_tokens"]:
            token["content"] = self._shown.get(token["content"], token["content"])
        _rename(tree["model"], self._shown)
        return Tokenizer.from_str(json.dumps(tree | {"post_processor": None}))


def _is_mark(name: str) -> bool:
    """Whether an added token that is not special is more than a run of spaces or a word."""
    return not name.isspace() and not name.isalnum()


def _rename(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Rename tokens in the vocabulary of a tokenizer's model, keeping their ids, and forget the merges that make them."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(name, name): index for name, index in vocabulary.items()}
    else:  # Unigram's pairs of name and score
        model["vocab"] = [[names.get(name, name), score] for name, score in vocabulary]
    if model.get("unk_token") is not None:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        model["merges"] = [pair for pair in pairs if names.keys().isdisjoint([*pair, "".join(pair)])]
