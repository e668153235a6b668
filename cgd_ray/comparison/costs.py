"""What each arm costs: the generation that its examples need, the teacher included, and its training.

The records are made once for all arms. An arm is charged with the turns that it reads, and with those that these were made from:
`refined_only` with the critiques, without which there would be no refinements, `sft` with none. Engine seconds and money are known by role;
a turn's share of them is its share of the tokens that its role has generated.
How to use: `cost_of_records(arm, made, paid, config)`; `cost_of_training(summary, config)`.
"""

from collections.abc import Mapping
from typing import Any

from cgd_ray.config import Config
from cgd_ray.config.comparison import ARMS
from cgd_ray.data.records import TURNS_OF_ROLE
from cgd_ray.training.examples.arms import REQUIRED_COLUMNS

MADE_FROM: Mapping[str, tuple[str, ...]] = {
    "attempt": ("attempt",),
    "critique": ("attempt", "critique"),
    "refinement": ("attempt", "critique", "refinement"),
    "direct": ("direct",),
}
"""The turns without which there would not be this one."""

Costs = dict[str, float | None]


def cost_of_records(arm: str, made: Mapping[str, Any], spent: float | None, config: Config) -> Costs:
    """What an arm's share of a generation cost, from that one's manifest; `spent` is what the teacher's endpoint was paid for all of it.

    Tokens are generated ones, seconds those of engines, gpu_seconds and cpu_seconds what these held; cost is None without an endpoint.
    """
    needed = {turn for column in REQUIRED_COLUMNS[ARMS[arm][0]] for turn in MADE_FROM.get(column, ())}
    found: Costs = {"engine_seconds": 0.0, "gpu_seconds": 0.0, "cpu_seconds": 0.0, "cost": None}
    for role, turns in TURNS_OF_ROLE.items():
        tokens = {turn: made["tokens"][turn]["tokens"] for turn in turns if turn in made["tokens"]}
        used = sum(count for turn, count in tokens.items() if turn in needed)
        share = used / max(1, sum(tokens.values()))
        placement, seconds = getattr(config, role).placement, share * made["engine_seconds"].get(role, 0.0)
        found[f"{role}_tokens"] = used
        for name, amount in (("engine", 1.0), ("gpu", placement.gpus_of_replica), ("cpu", placement.cpus_per_replica)):
            found[f"{name}_seconds"] = (found[f"{name}_seconds"] or 0.0) + seconds * amount
        if role == "teacher" and spent is not None:
            found["cost"] = share * spent
    return found


def cost_of_training(summary: Mapping[str, Any], config: Config) -> Costs:
    """What the workers of one training held, by the summary of its run, over all tries and with their start."""
    training = summary["training"]
    held = summary["seconds"]["train"] * training["world_size"]
    return {
        "worker_seconds": held,
        "gpu_seconds": held * config.training.use_gpu,
        "cpu_seconds": held * training["cpus_per_worker"],
        "target_tokens": training["target_tokens"],
    }
