"""Stand-ins for engines, each with the one property that a benchmark is about; the factories cross processes.

How to use: `generate(config, run, engine_factory=InstantEngine)`, or `engine_factory=SlowEngines(median_s=0.05, sigma=1.0)`.
"""

from collections.abc import Sequence

from cgd_ray.config import RoleConfig, SamplingConfig
from cgd_ray.generation.engine import Generation
from cgd_ray.prompts import Message

INSTANT = Generation(
    text="7 x 6 = 42, so the answer is \\boxed{42}.\nConclusion: right", num_tokens=24, prompt_tokens=96, cached_tokens=48, finish_reason="stop"
)


class InstantEngine:
    """Answers at once and always the same, so that what is measured is the pipeline around it. Its own factory."""

    chat = None

    def __init__(self, role: RoleConfig) -> None:
        self.role = role

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """The constant."""
        return INSTANT

    def close(self) -> None:
        """Nothing is held."""
