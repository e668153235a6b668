"""What a cluster is started with, from a run's config and few values, for each kind of cluster.

How to use: `render(config, "slurm", ["environment=/shared/cgd"])`; `cgd cluster render` does so.
"""

from collections.abc import Callable, Mapping, Sequence

from cgd_ray.cluster.rendering.kuberay import render_kuberay
from cgd_ray.cluster.rendering.machines import render_ray_up_aws, render_ray_up_gcp, render_skypilot
from cgd_ray.cluster.rendering.slurm import render_slurm
from cgd_ray.config import Config

KINDS: Mapping[str, Callable[[Config, Sequence[str]], str]] = {
    "kuberay": render_kuberay,
    "slurm": render_slurm,
    "ray-up-aws": render_ray_up_aws,
    "ray-up-gcp": render_ray_up_gcp,
    "skypilot": render_skypilot,
}


def render(config: Config, kind: str, overrides: Sequence[str]) -> str:
    """Manifests or a script. Raises ValueError, one line each, for kinds and values that are missing, unknown or do not fit the config."""
    if kind not in KINDS:
        raise ValueError(f"--kind {kind} is unknown; it may be {', '.join(KINDS)}")
    return KINDS[kind](config, overrides)
