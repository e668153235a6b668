"""Small stand-ins for what is heavy; each states the property it has."""

import asyncio
import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.generation.engine import Generation, RequestError, token_budget
from cgd_ray.prompts import Message


@dataclass(frozen=True)
class FakeEngines:
    """An engine factory whose engines answer with a text that is a function of the messages and the seed alone; a byte is a token.

    Each answer takes `latency_s` times an exponential variate that is a function of the same; `refuse_over` refuses longer prompts;
    an engine that finds `deadly` in a message ends its process: always, or, with a `death_certificate`, unless that file exists already;
    one that finds `sleepy` never answers; one that finds `held` answers once the file `until` exists.
    """

    latency_s: float = 0.0
    refuse_over: int | None = None
    deadly: str | None = None
    death_certificate: str | None = None
    sleepy: str | None = None
    held: str | None = None
    until: str = ""
    verdict: str = "Conclusion: wrong"

    def __call__(self, role: RoleConfig) -> "FakeEngine":
        return FakeEngine(self, role)


class FakeEngine:
    """One engine of FakeEngines; counts how many requests it held at once."""

    chat = None

    def __init__(self, settings: FakeEngines, role: RoleConfig) -> None:
        self._settings, self._role = settings, role
        self.running = self.most_running = 0

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """Answer after the latency. Raises RequestError like the real one for a prompt that fills the context."""
        settings, text = self._settings, "\n".join(message.content for message in messages)
        prompt_tokens = len(text.encode())
        token_budget(prompt_tokens, self._role.context_length, sampling.max_tokens)
        if settings.refuse_over is not None and prompt_tokens > settings.refuse_over:
            raise RequestError("refused by the fake")
        self._die_of(text)
        if settings.sleepy is not None and settings.sleepy in text:
            await asyncio.Event().wait()
        while settings.held is not None and settings.held in text and not Path(settings.until).exists():
            await asyncio.sleep(0.05)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        digest = fake_digest(text, seed)
        if settings.latency_s:
            await asyncio.sleep(settings.latency_s * random.Random(digest).expovariate(1.0))
        self.running -= 1
        return Generation(
            text=f"{digest} \\boxed{{{prompt_tokens}}}\n{settings.verdict}",
            num_tokens=8,
            prompt_tokens=prompt_tokens,
            cached_tokens=0,
            finish_reason="stop",
        )

    def close(self) -> None:
        """Nothing is held."""

    def _die_of(self, text: str) -> None:
        settings = self._settings
        if settings.deadly is None or settings.deadly not in text:
            return
        if settings.death_certificate is not None:
            certificate = Path(settings.death_certificate)
            if certificate.exists():
                return
            certificate.touch()
        os._exit(1)


def fake_digest(text: str, seed: int) -> str:
    """What a fake engine's answer begins with."""
    return hashlib.sha256(f"{text} {seed}".encode()).hexdigest()[:12]
