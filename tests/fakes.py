"""Small stand-ins for what is heavy; each states the property it has."""

import asyncio
import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cgd_ray.chat import Chat
from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.generation.engine import Generation, RequestError, encode_prompt, token_budget
from cgd_ray.prompts import Message


@dataclass(frozen=True)
class FakeEngines:
    """An engine factory whose engines answer with a text that is a function of the input ids and the seed alone.

    Each answer takes `latency_s` times an exponential variate that is a function of the same; `refuse_over` refuses longer prompts;
    an engine that finds `deadly_id` in a prompt ends its process: always, or, with a `death_certificate`, unless that file exists already;
    one that finds `sleepy_id` never answers.
    """

    latency_s: float = 0.0
    refuse_over: int | None = None
    deadly_id: int | None = None
    death_certificate: str | None = None
    sleepy_id: int | None = None
    verdict: str = "Conclusion: wrong"

    def __call__(self, role: RoleConfig) -> "FakeEngine":
        return FakeEngine(self, role)


class FakeEngine:
    """One engine of FakeEngines; counts how many requests it held at once."""

    def __init__(self, settings: FakeEngines, role: RoleConfig) -> None:
        self._settings, self._role = settings, role
        self.chat = Chat.load(role.model, role.chat_template_kwargs)
        self.running = self.most_running = 0

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """Answer after the latency. Raises RequestError like the real one for a prompt that fills the context."""
        settings, input_ids = self._settings, encode_prompt(self.chat, messages)
        token_budget(len(input_ids), self._role.context_length, sampling.max_tokens)
        if settings.refuse_over is not None and len(input_ids) > settings.refuse_over:
            raise RequestError("refused by the fake")
        self._die_of(input_ids)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        digest = fake_digest(input_ids, seed)
        if settings.sleepy_id is not None and settings.sleepy_id in input_ids:
            await asyncio.Event().wait()
        if settings.latency_s:
            await asyncio.sleep(settings.latency_s * random.Random(digest).expovariate(1.0))
        self.running -= 1
        return Generation(
            text=f"{digest} \\boxed{{{len(input_ids)}}}\n{settings.verdict}",
            num_tokens=8,
            prompt_tokens=len(input_ids),
            cached_tokens=0,
            finish_reason="stop",
        )

    def close(self) -> None:
        """Nothing is held."""

    def _die_of(self, input_ids: Sequence[int]) -> None:
        settings = self._settings
        if settings.deadly_id is None or settings.deadly_id not in input_ids:
            return
        if settings.death_certificate is not None:
            certificate = Path(settings.death_certificate)
            if certificate.exists():
                return
            certificate.touch()
        os._exit(1)


def fake_digest(input_ids: Sequence[int], seed: int) -> str:
    """What a fake engine's answer begins with."""
    return hashlib.sha256(f"{list(input_ids)} {seed}".encode()).hexdigest()[:12]
