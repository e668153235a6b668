"""The factory of the real engines: an endpoint's client for a role with `api`, vLLM for all others; each is imported when it is needed.

How to use: `engine = RealEngines(spending=run.spending)(role)` in the process that uses the engine.
"""

from dataclasses import dataclass
from pathlib import Path

from cgd_ray.config import RoleConfig
from cgd_ray.engines.engine import Engine


@dataclass(frozen=True, kw_only=True)
class RealEngines:
    """The factory of the real things: an endpoint's client for a role with `api`, vLLM for all others."""

    spending: Path
    """Directory of the journal of what endpoints are paid for."""

    def __call__(self, role: RoleConfig) -> Engine:
        if role.api is None:
            return start_vllm(role)
        from cgd_ray.engines.api.endpoint import ApiEngine

        return ApiEngine(role, role.api, self.spending)


def start_vllm(role: RoleConfig) -> Engine:
    """The factory of engines that run here; vLLM is imported here and not before."""
    from cgd_ray.engines.vllm_engine import VllmEngine

    return VllmEngine(role)
