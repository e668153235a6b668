"""Placement groups for engines that span nodes: one for each actor of a pool, with the GPUs of vLLM's workers, removed after the run.

Ray keeps such a group until its whole job ends, even when the actor it was made for is gone, and its GPUs with it (ray#64035); so whoever
makes one removes it. vLLM's `ray` executor uses the group that its actor is in.
How to use: `groups = EngineGroups(placement)`; `map_batches(..., ray_remote_args_fn=groups.arguments)`; `groups.remove()`.
"""

from typing import Any

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cgd_ray.config import PlacementConfig

ACCELERATOR_SHARE = 0.001  # of a node's resource accelerator_type:X, by which Ray marks its nodes


class EngineGroups:
    """The groups of one role's pool."""

    def __init__(self, placement: PlacementConfig) -> None:
        self._placement = placement
        self._groups: list[PlacementGroup] = []

    def arguments(self) -> dict[str, Any]:
        """Make a group for one more actor; returns how Ray is to place it: in the first bundle, and what it starts in the others."""
        bundles = self._bundles()
        selectors = [dict(self._placement.label_selector)] * len(bundles) if self._placement.label_selector else None
        group = placement_group(bundles, strategy="PACK", bundle_label_selector=selectors)  # a node's GPUs first, then the next node's
        self._groups.append(group)
        return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)}

    def remove(self) -> None:
        """Free the GPUs; what is still in a group ends."""
        for group in self._groups:
            remove_placement_group(group)
        self._groups = []

    def _bundles(self) -> list[dict[str, float]]:
        """One for each GPU, as vLLM wants them; the first has the actor's CPUs too."""
        kind = self._placement.accelerator_type
        gpu = {"GPU": 1.0} if kind is None else {"GPU": 1.0, f"accelerator_type:{kind}": ACCELERATOR_SHARE}
        return [{"CPU": self._placement.cpus_per_replica, **gpu}, *[gpu] * (self._placement.gpus_of_replica - 1)]
