"""What an API has been paid for: a durable journal of every answer, and the sums of tokens and money that come from it.

Each engine appends to a file of its own in the run directory and follows the files of the others, so all know what the run has spent, in
this life and in earlier ones. The journal holds the answers too: one that was paid for is never asked for again, even when the row it
belongs to was lost in a fault before it was written. Tokens are the endpoint's own counts; prices are applied when sums are read, so a
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

    def plus(self, purchase: Purchase) -> "Spending":
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


class Account:
    """What all engines of a run have spent, followed while they do; takes no memory for what it has read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read_bytes: dict[Path, int] = {}
        self._spending = Spending()

    def spending(self) -> Spending:
        """What they have spent so far."""
        for file in self._directory.glob("*.jsonl"):
            for offset, purchase in self._news(file):
                self._take(file, offset, purchase)
        return self._spending

    def _take(self, file: Path, offset: int, purchase: Purchase) -> None:
        self._spending = self._spending.plus(purchase)

    def _news(self, file: Path) -> Iterator[tuple[int, Purchase]]:
        """Offset and content of each whole line that was not read before; a last line torn by a kill stays unread."""
        offset = self._read_bytes.get(file, 0)
        if file.stat().st_size == offset:
            return
        with file.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                try:
                    yield offset, Purchase(**json.loads(line))
                except ValueError:  # damaged since it was written
                    logger.warning("%s: the line at byte %d is damaged, what was paid for it is not counted", file, offset)
                offset += len(line)
        self._read_bytes[file] = offset


class Journal(Account):
    """The account as an engine keeps it: it writes down what it buys, and knows what the others have bought."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._own: int | None = None  # descriptor of the file that this engine writes, made with the first purchase
        self._places: dict[str, tuple[Path, int]] = {}  # of a request's answer: file and offset, since all texts may not fit in memory

    def add(self, purchase: Purchase) -> None:
        """Write a purchase down; it is on the disk when this returns. Raises OSError when it could not be written whole."""
        if self._own is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._own = os.open(self._directory / f"{uuid.uuid4().hex}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        line = json.dumps(asdict(purchase)).encode() + b"\n"
        try:
            while line:  # the last room of a disk takes a part of it without complaint
                line = line[os.write(self._own, line) :]
            os.fsync(self._own)
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
            return Purchase(**json.loads(stream.readline()))

    def close(self) -> None:
        """Close the file that this engine writes."""
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _take(self, file: Path, offset: int, purchase: Purchase) -> None:
        super()._take(file, offset, purchase)
        if purchase.key is not None:
            self._places[purchase.key] = (file, offset)


def spent(directory: Path) -> Spending:
    """What a run has spent, by its journal."""
    return Account(directory).spending()


def _limit_line(setting: str, limit: str, spending: str) -> str:
    return (
        f"teacher.api.{setting} {limit} is reached: {spending}; finished records are kept, raise it and run the same command again to go on"
    )
