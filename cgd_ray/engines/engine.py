"""What an engine is: a conversation in, one finished generation out; the stages know nothing else about it.

Why an interface: vLLM's engine, an API teacher and the fakes of the tests stand behind the same two methods, and a stage receives a
picklable factory instead of an engine, so that the heavy object is built in the actor that uses it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, runtime_checkable

from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One finished request."""

    text: str
    """Without special tokens."""
    thinking: str | None = None
    """What an endpoint has kept apart from the text as the model's thought; None where it is inside the text, or there is none."""
    num_tokens: int
    """Generated tokens, the end token included."""
    prompt_tokens: int
    """Tokens of the prompt."""
    cached_tokens: int
    """Of the prompt's tokens, those found in the engine's prefix cache."""
    finish_reason: str
    """"stop", "length" when cut off by a limit, "repetition" when ended since it repeated itself."""
    cost: float = 0.0
    """What an endpoint was paid for it now, in its currency; 0 without prices, for what was paid for before and for our own engines."""


class RequestError(ValueError):
    """A request that cannot be served, whatever the engine's state: the row fails, the engine lives on."""


class RunEndedError(Exception):
    """Nothing is wrong with this row, but no row can be served now: the run ends and can be resumed. Its one line is for the user."""


class Engine(Protocol):
    """Serves any number of requests at the same time."""

    @property
    def chat(self) -> Chat | None:
        """The model's tokenizer and chat template; None where only the endpoint has them."""
        ...

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """The assistant's next turn.

        Raises RequestError when this request cannot be served, whatever its messages hold, RunEndedError when none can. An OSError ends
        the run too; anything else is taken for this request's fault.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; no request may be running."""
        ...


@runtime_checkable
class Concluding(Protocol):
    """An engine of our own, which can be held to a choice."""

    async def conclude(self, messages: Sequence[Message], beginning: str, choices: Sequence[str]) -> Generation:
        """The end of the assistant's next turn, which has this beginning: one of the choices. Raises as Engine.generate."""
        ...


@dataclass(frozen=True, kw_only=True)
class Load:
    """How busy an engine is."""

    running: int
    """Requests that get tokens."""
    waiting: int
    """Requests that wait for room."""
    kv_cache_use: float
    """Share of the memory for keys and values that is taken."""
    preemptions: int
    """How often a request has lost its room to others so far, and is to be computed again."""
    unfinished_tokens: int
    """Tokens that the requests which are inside have got so far, and that no finished generation tells of yet."""


OnLoad = Callable[[Load], None]
OnDeath = Callable[[str], None]


@runtime_checkable
class Observable(Protocol):
    """An engine of our own, which can tell how it is."""

    def observe(self, on_load: OnLoad, on_death: OnDeath) -> None:
        """Call the one every second or so, from another thread, and the other with the reason before the process is ended."""
        ...


class EndedEngine:
    """Stands for an engine that is not started, since the run ends."""

    chat = None

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> NoReturn:
        """Raise RunEndedError."""
        raise RunEndedError(self._reason)

    def close(self) -> None:
        """Nothing is held."""


EngineFactory = Callable[[RoleConfig], Engine]
"""Builds the engine of a role in the process that calls it. Crosses processes, so it is a module-level function or a frozen dataclass."""


def encode_prompt(chat: Chat, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation. Raises RequestError for text that is not valid Unicode."""
    try:
        return chat.prompt(messages).input_ids
    except ValueError as error:
        raise RequestError(str(error)) from None


def token_budget(prompt_tokens: int, context_length: int, max_tokens: int) -> int:
    """Tokens that may be generated after a prompt. Raises RequestError when there is room for none."""
    room = context_length - prompt_tokens
    if room < 1:
        raise RequestError(f"prompt of {prompt_tokens:,} tokens leaves no room in context_length {context_length:,}; raise it")
    return min(max_tokens, room)
