"""What an API has been paid for: a durable journal of every answer, and the sums of tokens and money that come from it.

Each engine appends to a file of its own in the run directory and follows the files of the others, so all know what the run has spent, in
this life and in earlier ones. The journal holds the answers too: one that was paid for is never asked for again, even when the row it
belongs to was lost in a fault before it was written. Beside each file is its index, a short line for each answer with its counts and its
place, so that following the others costs no reading of their texts; what an index lacks, as those of older versions do and one that a kill
came before, is read from the file itself. Tokens are the endpoint's own counts; prices are applied when sums are read, so a
corrected price corrects the past. How to use: `Journal(run.spending).add(purchase)`; `spent(run.spending).cost(api)`.
"""

import json
import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cgd_ray.config import ApiConfig

logger = logging.getLogger(__name__)

INDEX_SUFFIX = ".index"


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """One answer of an API."""

    key: str | None
    """Names the request it answers; null when it cannot be used, so that it counts but is never handed out."""
    prompt_tokens: int
    """Tokens of the prompt."""
    cached_tokens: int
    """Of the prompt's tokens, those found in the endpoint's cache."""
    tokens: int
    """Generated tokens."""
    text: str
    """The answer."""
    finish_reason: str
    """Why it ended, in the endpoint's words."""
    thinking: str | None = None
    """The model's thought, where the endpoint keeps it apart."""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Sums over purchases."""

    answers: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Part of prompt_tokens."""
    tokens: int = 0
    """Generated tokens."""

    def plus(self, purchase: "Purchase | _Entry") -> "Spending":
        """These sums and one purchase more."""
        return Spending(
            answers=self.answers + 1,
            prompt_tokens=self.prompt_tokens + purchase.prompt_tokens,
            cached_tokens=self.cached_tokens + purchase.cached_tokens,
            tokens=self.tokens + purchase.tokens,
        )

    def cost(self, api: ApiConfig) -> float | None:
        """Money, in `api.currency`; None without both prices."""
        for_input, for_output = api.price_per_million_input_tokens, api.price_per_million_output_tokens
        if for_input is None or for_output is None:
            return None
        for_cached = for_input if api.price_per_million_cached_tokens is None else api.price_per_million_cached_tokens
        fresh_tokens = self.prompt_tokens - self.cached_tokens
        return (fresh_tokens * for_input + self.cached_tokens * for_cached + self.tokens * for_output) / 1_000_000

    def reached_limit(self, api: ApiConfig) -> str | None:
        """One line that says which limit is reached, what was spent and how to go on; None while there is something left."""
        all_tokens, cost = self.prompt_tokens + self.tokens, self.cost(api)
        counts = f"{self.answers:,} answers with {self.prompt_tokens:,} input and {self.tokens:,} output tokens"
        if api.max_cost is not None and cost is not None and cost >= api.max_cost:
            return _limit_line("max_cost", f"{api.max_cost:g} {api.currency}", f"{cost:.4f} {api.currency} spent on {counts}")
        if api.max_tokens_total is not None and all_tokens >= api.max_tokens_total:
            return _limit_line("max_tokens_total", f"{api.max_tokens_total:,}", f"{all_tokens:,} tokens spent, {counts}")
        return None


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A line of an index: an answer without its texts, and where it is in its file."""

    key: str | None
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    start: int
    """Byte at which its line begins."""
    end: int
    """Byte at which the next one does."""


class _Followed:
    """One engine's file, as far as it is known."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._index = file.with_suffix(INDEX_SUFFIX)
        self._index_read = 0  # bytes of the index
        self._known = 0  # bytes of the file whose answers are known
        self._looked_at = 0  # bytes that the file had when its end was read

    def news(self) -> Iterator[_Entry]:
        """Answers that were not told before; a last line torn by a kill is not told until it is whole."""
        if self._index.exists() and self._index.stat().st_size > self._index_read:
            yield from self._indexed()
        size = self.file.stat().st_size
        if size > max(self._known, self._looked_at):
            self._looked_at = size
            yield from self._unindexed()

    def _indexed(self) -> Iterator[_Entry]:
        for _, end, line in _whole_lines(self._index, self._index_read):
            self._index_read = end
            try:
                entry = _Entry(**json.loads(line))
            except (ValueError, TypeError):  # damaged since it was written: the file itself tells
                continue
            if entry.start == self._known:  # what the index left out, and all that follows, is read from the file
                self._known = entry.end
                yield entry

    def _unindexed(self) -> Iterator[_Entry]:
        for start, end, line in _whole_lines(self.file, self._known):
            self._known = end
            try:
                purchase = Purchase(**json.loads(line))
            except (ValueError, TypeError):  # damaged since it was written
                logger.warning("%s: the line at byte %d is damaged, what was paid for it is not counted", self.file, start)
            else:
                yield _entry(purchase, start, end)


class Account:
    """What all engines of a run have spent, followed while they do; takes no memory for what it has read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._followed: dict[Path, _Followed] = {}
        self._spending = Spending()

    def spending(self) -> Spending:
        """What they have spent so far."""
        for file in self._directory.glob("*.jsonl"):
            for entry in self._followed.setdefault(file, _Followed(file)).news():
                self._take(file, entry)
        return self._spending

    def _take(self, file: Path, entry: _Entry) -> None:
        self._spending = self._spending.plus(entry)


class Journal(Account):
    """The account as an engine keeps it: it writes down what it buys, and knows what the others have bought."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._own: tuple[int, int] | None = None  # descriptors of the file that this engine writes and of its index, from the first on
        self._written = 0  # bytes of that file
        self._places: dict[str, tuple[Path, int]] = {}  # of a request's answer: file and offset, since all texts may not fit in memory

    def add(self, purchase: Purchase) -> None:
        """Write a purchase down; it is on the disk when this returns. Raises OSError when it could not be written whole."""
        if self._own is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            file = self._directory / f"{uuid.uuid4().hex}.jsonl"
            self._own, self._written = (_created(file), _created(file.with_suffix(INDEX_SUFFIX))), 0
        line, (file_descriptor, index_descriptor) = json.dumps(asdict(purchase)).encode() + b"\n", self._own
        entry = _entry(purchase, self._written, self._written + len(line))
        try:
            _write(file_descriptor, line)
            os.fsync(file_descriptor)
            self._written = entry.end
            _write(index_descriptor, json.dumps(asdict(entry)).encode() + b"\n")  # what a fault takes of it is read from the file
        except OSError:
            self.close()  # nothing may follow a torn line in its file; the next purchase begins another
            raise

    def bought(self, key: str) -> Purchase | None:
        """The answer to a request, when any engine has bought it."""
        self.spending()
        if key not in self._places:
            return None
        file, offset = self._places[key]
        with file.open("rb") as stream:
            stream.seek(offset)
            try:
                return Purchase(**json.loads(stream.readline()))
            except (ValueError, TypeError):
                logger.warning("%s: the line at byte %d is damaged, what it holds is bought again", file, offset)
                return None

    def close(self) -> None:
        """Close the files that this engine writes."""
        for descriptor in self._own or ():
            os.close(descriptor)
        self._own = None

    def _take(self, file: Path, entry: _Entry) -> None:
        super()._take(file, entry)
        if entry.key is not None:
            self._places[entry.key] = (file, entry.start)


def _entry(purchase: Purchase, start: int, end: int) -> _Entry:
    counts = {"prompt_tokens": purchase.prompt_tokens, "cached_tokens": purchase.cached_tokens, "tokens": purchase.tokens}
    return _Entry(key=purchase.key, **counts, start=start, end=end)


def _whole_lines(file: Path, offset: int) -> Iterator[tuple[int, int, bytes]]:
    """Start, end and content of each line from an offset on that ends."""
    with file.open("rb") as stream:
        stream.seek(offset)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            yield offset, offset + len(line), line
            offset += len(line)


def _created(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)


def _write(descriptor: int, line: bytes) -> None:
    while line:  # the last room of a disk takes a part of it without complaint
        line = line[os.write(descriptor, line) :]


def spent(directory: Path) -> Spending:
    """What a run has spent, by its journal."""
    return Account(directory).spending()


def _limit_line(setting: str, limit: str, spending: str) -> str:
    return (
        f"teacher.api.{setting} {limit} is reached: {spending}; finished records are kept, raise it and run the same command again to go on"
    )
