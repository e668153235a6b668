"""Small stand-ins for what is heavy; each states the property it has."""

import asyncio
import hashlib
import os
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Message
from cgd_ray.engines.engine import Generation, Load, OnDeath, OnLoad, RequestError, encode_prompt, token_budget


@dataclass(frozen=True)
class FakeEngines:
    """An engine factory whose engines answer with a text that is a function of the messages and the seed alone; a byte is a token.

    Each answer takes `latency_s` times an exponential variate that is a function of the same; `refuse_over` refuses longer prompts; an
    engine that finds `deadly` in a message ends its process, with `last_words` if there are any: always, or, with a `death_certificate`,
    unless that file exists already; one
    that finds `sleepy` never answers, `refused` refuses, `broken` raises what nobody expects, `mute` answers nothing, `undecided` writes
    no verdict, `endless` is cut by its limit, `babbling` repeats itself, `held` answers once the file `until` exists. Each answer is a line
    in a file of its engine's in the directory `journal`. With `tokenizer_of` a model, prompts become that model's tokens, as in the real
    engine, and contexts are counted in them.
    """

    latency_s: float = 0.0
    refuse_over: int | None = None
    deadly: str | None = None
    death_certificate: str | None = None
    last_words: str | None = None
    sleepy: str | None = None
    refused: str | None = None
    broken: str | None = None
    mute: str | None = None
    undecided: str | None = None
    endless: str | None = None
    babbling: str | None = None
    tokenizer_of: str | None = None
    held: str | None = None
    until: str = ""
    journal: str | None = None
    verdict: str = "Conclusion: wrong"

    def __call__(self, role: RoleConfig) -> "FakeEngine":
        return FakeEngine(self, role)


@dataclass(frozen=True)
class NeverUp:
    """An engine factory whose engines start for ever; each that begins to makes the file `begun`."""

    begun: str

    def __call__(self, role: RoleConfig) -> "FakeEngine":
        Path(self.begun).touch()
        time.sleep(3600)
        raise AssertionError("nobody waits that long")


class FakeEngine:
    """One engine of FakeEngines; counts how many requests it held at once."""

    def __init__(self, settings: FakeEngines, role: RoleConfig) -> None:
        self._settings, self._role = settings, role
        self.chat = None if settings.tokenizer_of is None else Chat.load(settings.tokenizer_of)
        self.running = self.most_running = 0
        self._journal = None if settings.journal is None else _open_journal(Path(settings.journal))

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """Answer after the latency. Raises RequestError like the real one for a prompt that fills the context."""
        settings, text = self._settings, "\n".join(message.content for message in messages)
        prompt_tokens = len(text.encode() if self.chat is None else encode_prompt(self.chat, messages))
        token_budget(prompt_tokens, self._role.context_length, sampling.max_tokens)
        if _holds(text, settings.refused) or (settings.refuse_over is not None and prompt_tokens > settings.refuse_over):
            raise RequestError("refused by the fake")
        if _holds(text, settings.broken):
            raise ZeroDivisionError("broken in the fake")
        self._die_of(text)
        if _holds(text, settings.sleepy):
            await asyncio.Event().wait()
        while _holds(text, settings.held) and not Path(settings.until).exists():
            await asyncio.sleep(0.05)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        digest = fake_digest(text, seed)
        if settings.latency_s:
            await asyncio.sleep(settings.latency_s * random.Random(digest).expovariate(1.0))
        self.running -= 1
        if self._journal is not None:
            os.write(self._journal, f"{digest}\n".encode())
        answer = f"{digest} \\boxed{{{prompt_tokens}}}\n{'' if _holds(text, settings.undecided) else settings.verdict}"
        return Generation(
            text="" if _holds(text, settings.mute) else answer,
            num_tokens=8,
            prompt_tokens=prompt_tokens,
            cached_tokens=0,
            finish_reason="length" if _holds(text, settings.endless) else "repetition" if _holds(text, settings.babbling) else "stop",
        )

    def observe(self, on_load: OnLoad, on_death: OnDeath) -> None:
        """Tell a load at once, half of the memory and one preemption."""
        self._on_death = on_death
        on_load(Load(running=3, waiting=2, kv_cache_use=0.5, preemptions=1, unfinished_tokens=0))

    async def conclude(self, messages: Sequence[Message], beginning: str, choices: Sequence[str]) -> Generation:
        """The choice that is in the settings' verdict; never one where the beginning puts it to sleep."""
        if _holds(beginning, self._settings.sleepy):
            await asyncio.Event().wait()
        chosen = next(choice for choice in choices if choice in self._settings.verdict)
        return Generation(text=chosen, num_tokens=2, prompt_tokens=len(beginning), cached_tokens=0, finish_reason="stop")

    def close(self) -> None:
        """Nothing is held."""

    def _die_of(self, text: str) -> None:
        settings = self._settings
        if not _holds(text, settings.deadly):
            return
        if settings.death_certificate is not None:
            certificate = Path(settings.death_certificate)
            if certificate.exists():
                return
            certificate.touch()
        if settings.last_words is not None:
            self._on_death(settings.last_words)
        os._exit(1)


def _open_journal(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    return os.open(directory / f"{uuid.uuid4().hex}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def answers_made(journal: str | Path) -> list[str]:
    """What every engine with this journal has answered, one entry an answer; the same answer made twice is there twice."""
    return [line for file in Path(journal).iterdir() for line in file.read_text(encoding="utf-8").splitlines()]


def _holds(text: str, mark: str | None) -> bool:
    return mark is not None and mark in text


def fake_digest(text: str, seed: int) -> str:
    """What a fake engine's answer begins with."""
    return hashlib.sha256(f"{text} {seed}".encode()).hexdigest()[:12]
