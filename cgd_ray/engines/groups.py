"""Placement groups for engines that span nodes: one for each actor of a pool, with the GPUs of vLLM's workers, removed after the run.

Ray keeps such a group until its whole job ends, even when the actor it was made for is gone, and its GPUs with it (ray#64035); so whoever
makes one removes it. vLLM's `ray` executor uses the group that its actor is in.
How to use: `groups = EngineGroups(placement)`; `map_batches_internal(..., ray_remote_args_fn=groups.arguments)`; `groups.remove()`; in the
actor, before its engine starts, `check_group("teacher", placement)`.
"""

from collections import Counter
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cgd_ray.config import PlacementConfig

ACCELERATOR_SHARE = 0.001  # of a node's resource accelerator_type:X, by which Ray marks its nodes


def check_group(role: str, placement: PlacementConfig) -> None:
    """Refuse, in the actor, a group that cuts a pipeline stage: vLLM would only warn, and send every layer's sums from node to node.

    vLLM wants a bundle for each GPU, and Ray, which packs bundles one by one, knows nothing of stages: of two nodes with 3 free GPUs it
    takes 3 + 1 for two stages of 2. vLLM numbers its workers node by node, so stages are whole where each node holds a multiple of one.
    Bundles are not pinned to nodes instead, since Ray could not replace a node that dies. Raises ValueError.
    """
    group = get_current_placement_group()
    assert group is not None, "an engine that spans nodes is started in its group"
    ray.get(group.ready())  # after the loss of a node Ray starts the actor before it has found another one
    held = sorted(Counter(placement_group_table(group)["bundles_to_node_id"].values()).values(), reverse=True)
    if any(gpus % placement.gpus_per_replica for gpus in held):
        raise ValueError(
            f"{role}.placement.gpus_per_replica is {placement.gpus_per_replica:g}, and Ray found {' + '.join(map(str, held))} free GPUs on "
            f"{len(held)} nodes, which cuts a pipeline stage in two; keep whole nodes free for it, by a label_selector if need be"
        )


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
        return [{"CPU": self._placement.cpus_per_replica, **gpu}, *[gpu] * (int(self._placement.gpus_of_replica) - 1)]
