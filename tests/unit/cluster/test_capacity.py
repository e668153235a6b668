"""What a run needs of models, contexts and cluster is checked to the token and to the processor, before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from cgd_ray.cluster.capacity import check_cluster, check_cpus_here, check_memory
from cgd_ray.cluster.connection import Node, Resources
from cgd_ray.config import Config
from tests.builders import tiny_model
from tests.unit.cluster.configs import make_config

PLACEMENT = {"min_replicas": 2, "max_replicas": 8, "cpus_per_replica": 1.5, "gpus_per_replica": 2}
PHASES = ("generate", "train", "evaluate")


def fixed(present: dict[str, float]) -> Resources:
    return Resources(nodes=[Node(resources=present)])


@pytest.mark.parametrize(
    ("config", "short", "expected"),
    [
        (
            make_config(student={"placement": PLACEMENT}, teacher={"placement": {"gpus_per_replica": 4}}),
            {"CPU": 4, "GPU": 7},
            "generate needs 8 GPUs (student.placement.min_replicas 2 x 2 + teacher.placement.min_replicas 1 x 4), the cluster has 7",
        ),
        (
            make_config(student={"placement": PLACEMENT}, teacher={"placement": PLACEMENT}),
            {"CPU": 5, "GPU": 8},
            "generate needs 6 CPUs (student.placement.min_replicas 2 x 1.5 + teacher.placement.min_replicas 2 x 1.5), the cluster has 5",
        ),
        (
            make_config(teacher={"placement": {"gpus_per_replica": 2, "nodes_per_replica": 4}}),
            {"CPU": 4, "GPU": 7},
            "generate needs 8 GPUs (student.placement.min_replicas 1 x 0 + teacher.placement.min_replicas 1 x 8), the cluster has 7",
        ),
        (
            make_config(training={"num_workers": 4, "cpus_per_worker": 0.5, "use_gpu": True}),
            {"CPU": 64, "GPU": 3},
            "train needs 4 GPUs (training.num_workers 4 x 1), the cluster has 3",
        ),
        (
            make_config(training={"num_workers": 4, "cpus_per_worker": 1.5}),
            {"CPU": 5},
            "train needs 6 CPUs (training.num_workers 4 x 1.5), the cluster has 5",
        ),
    ],
)
def test_a_phase_that_needs_more_than_the_cluster_has_is_refused_with_the_arithmetic(
    config: Config, short: dict[str, float], expected: str
) -> None:
    with pytest.raises(ValueError, match="needs") as refused:
        check_cluster(config, fixed(short), PHASES)
    assert str(refused.value) == f"{expected}; lower them, add nodes, or set cluster.max_resources to what an autoscaler adds"
    assert check_cluster(config, fixed({"CPU": 6, "GPU": 8}), PHASES) == []


@pytest.mark.parametrize(
    ("student", "teacher", "gpus"),
    [
        ((1, 0.5), (1, 0.5), 1),
        ((2, 0.6), (1, 0.6), 3),  # no two of them fit on one
        ((3, 0.2), (3, 0.8), 3),  # 3.0000000000000004 in sum
        ((3, 0.3), (1, 2.0), 3),
        ((4, 0.3), (1, 0.7), 2),
    ],
)
def test_shares_count_as_the_gpus_that_hold_them(student: tuple[int, float], teacher: tuple[int, float], gpus: int) -> None:
    def role(count: int, share: float) -> dict[str, Any]:
        return {"placement": {"min_replicas": count, "max_replicas": count, "gpus_per_replica": share, "cpus_per_replica": 0.1}}

    config = make_config(student=role(*student), teacher=role(*teacher))
    assert check_cluster(config, fixed({"CPU": 4, "GPU": gpus}), {"generate"}) == []
    with pytest.raises(ValueError, match=rf"generate needs {gpus} GPUs .*, the cluster has {gpus - 1}; lower them"):
        check_cluster(config, fixed({"CPU": 4, "GPU": gpus - 1}), {"generate"})


def test_the_engines_of_answering_checkpoints_count_beside_the_most_workers() -> None:
    answers = {"every_steps": 2, "placement": {"min_replicas": 2, "max_replicas": 2, "gpus_per_replica": 2}}
    validation = {"fraction": 0.1, "every_steps": 2, "answers": answers}
    training = {"num_workers": [2, 4], "use_gpu": True, "checkpoint_every_steps": 2, "validation": validation, "global_batch_size": 12}
    config = make_config(training=training)
    with pytest.raises(ValueError, match="needs") as refused:
        check_cluster(config, fixed({"CPU": 6, "GPU": 7}), {"train"})
    assert str(refused.value).startswith(
        "train needs 8 GPUs (training.num_workers 4 x 1 + training.validation.answers.placement.min_replicas 2 x 2), the cluster has 7"
    )
    assert check_cluster(config, fixed({"CPU": 6, "GPU": 8}), {"train"}) == []


def test_generation_and_training_at_the_same_time_need_the_most_of_both() -> None:
    one = {"cpus_per_replica": 0.5, "gpus_per_replica": 1}
    config = make_config(
        student={"placement": {**one, "max_replicas": 2}},
        teacher={"placement": one},
        training={"streaming": True, "num_workers": [1, 4], "global_batch_size": 12, "use_gpu": True},
    )
    assert check_cluster(config, fixed({"CPU": 5.5, "GPU": 7}), {"live", "evaluate"}) == []
    with pytest.raises(ValueError, match="needs") as refused:
        check_cluster(config, fixed({"CPU": 5.5, "GPU": 6}), {"live", "evaluate"})
    terms = "student.placement.max_replicas 2 x 1 + teacher.placement.max_replicas 1 x 1 + training.num_workers 4 x 1"
    assert (
        str(refused.value)
        == f"live needs 7 GPUs ({terms}), the cluster has 6; lower them, add nodes, or set cluster.max_resources to what an autoscaler adds"
    )
    with pytest.raises(ValueError, match=r"^live needs 5\.5 CPUs \(.* x 0\.5 \+ .* x 0\.5 \+ training\.num_workers 4 x 1\)"):
        check_cluster(config, fixed({"CPU": 5, "GPU": 7}), {"live"})


def test_a_plan_without_gpus_needs_none() -> None:
    check_cluster(make_config(), fixed({"CPU": 2}), PHASES)


def test_what_an_autoscaler_may_add_is_waited_for_and_what_it_may_not_is_refused() -> None:
    config = make_config(teacher={"placement": PLACEMENT})
    nodes = [Node(resources={"CPU": 9, "GPU": 1})]
    whole, each = check_cluster(config, Resources(nodes=nodes, limits={"CPU": 9, "GPU": 4}), PHASES)
    assert whole.endswith("the cluster has 1 and may grow to 4: waiting for its autoscaler")
    assert each.endswith("the nodes have room for 0: 1 x (1 GPUs, 9 CPUs): waiting for the autoscaler to add such nodes")
    with pytest.raises(ValueError, match=r"generate needs 4 GPUs .* the cluster has 3; lower them"):
        check_cluster(config, Resources(nodes=nodes, limits={"CPU": 9, "GPU": 3}), PHASES)


H100, A100 = ({"CPU": 16.0, "GPU": 4.0, f"accelerator_type:{kind}": 1.0} for kind in ("H100", "A100"))
SPOT = {"ray.io/market-type": "spot"}
MIXED = [Node(resources=H100), Node(resources=H100, labels=SPOT), Node(resources=A100, labels=SPOT), Node(resources={"CPU": 64.0})]


@pytest.mark.parametrize(
    ("placement", "needs", "offers"),
    [
        (
            {"gpus_per_replica": 8},
            "1 x (8 GPUs, 1 CPUs) on one node",
            "0: 3 x (4 GPUs, 16 CPUs), 1 x (0 GPUs, 64 CPUs)",
        ),
        (
            {"gpus_per_replica": 1, "cpus_per_replica": 17},
            "1 x (1 GPUs, 17 CPUs) on one node",
            "0: 3 x (4 GPUs, 16 CPUs), 1 x (0 GPUs, 64 CPUs)",
        ),
        (
            {"gpus_per_replica": 3, "min_replicas": 4, "max_replicas": 4},
            "4 x (3 GPUs, 1 CPUs) on one node",
            "3: 3 x (4 GPUs, 16 CPUs), 1 x (0 GPUs, 64 CPUs)",
        ),
        (
            {"gpus_per_replica": 0.6, "min_replicas": 9, "max_replicas": 9, "accelerator_type": "H100"},  # one on each GPU
            "9 x (0.6 GPUs, 1 CPUs, accelerator_type H100) on one node",
            "8: 2 x (4 GPUs, 16 CPUs, accelerator_type H100), 1 x (4 GPUs, 16 CPUs, accelerator_type A100), "
            "1 x (0 GPUs, 64 CPUs, accelerator_type none)",
        ),
        (
            {"gpus_per_replica": 1, "accelerator_type": "B200"},
            "1 x (1 GPUs, 1 CPUs, accelerator_type B200) on one node",
            "0: 2 x (4 GPUs, 16 CPUs, accelerator_type H100), 1 x (4 GPUs, 16 CPUs, accelerator_type A100), "
            "1 x (0 GPUs, 64 CPUs, accelerator_type none)",
        ),
        (
            {"gpus_per_replica": 4, "nodes_per_replica": 3, "accelerator_type": "H100"},
            "1 x (4 GPUs, 1 CPUs, accelerator_type H100) on each of 3 nodes",
            "0: 2 x (4 GPUs, 16 CPUs, accelerator_type H100), 1 x (4 GPUs, 16 CPUs, accelerator_type A100), "
            "1 x (0 GPUs, 64 CPUs, accelerator_type none)",
        ),
        (
            {"label_selector": {"ray.io/market-type": "on-demand"}},
            "1 x (0 GPUs, 1 CPUs, ray.io/market-type on-demand) on one node",
            "0: 2 x (4 GPUs, 16 CPUs, ray.io/market-type spot), 1 x (4 GPUs, 16 CPUs, ray.io/market-type none), "
            "1 x (0 GPUs, 64 CPUs, ray.io/market-type none)",
        ),
    ],
)
def test_what_no_nodes_can_hold_is_refused_and_with_an_autoscaler_waited_for(placement: dict[str, Any], needs: str, offers: str) -> None:
    config = make_config(teacher={"placement": placement})
    message = f"generate needs teacher.placement.min_replicas {needs}, the nodes have room for {offers}"
    with pytest.raises(ValueError, match="the nodes have room") as refused:
        check_cluster(config, Resources(nodes=MIXED), PHASES)
    assert str(refused.value) == f"{message}; ask for less, add such nodes, or set cluster.max_resources to what an autoscaler adds"
    may_grow = Resources(nodes=MIXED, limits={"CPU": 1000, "GPU": 100})
    assert check_cluster(config, may_grow, PHASES) == [f"{message}: waiting for the autoscaler to add such nodes"]


@pytest.mark.parametrize(
    "placement",
    [
        {"gpus_per_replica": 4, "min_replicas": 3, "max_replicas": 9},
        {"gpus_per_replica": 0.3, "min_replicas": 36, "max_replicas": 36},  # three on each GPU
        {"gpus_per_replica": 4, "nodes_per_replica": 3},
        {"gpus_per_replica": 2, "nodes_per_replica": 6},  # two stages on each node
        {"gpus_per_replica": 4, "min_replicas": 2, "max_replicas": 2, "accelerator_type": "H100"},
        {"gpus_per_replica": 4, "min_replicas": 2, "max_replicas": 2, "label_selector": {"ray.io/market-type": "in(spot,gone)"}},
        {"gpus_per_replica": 4, "label_selector": {"ray.io/market-type": "!spot"}},  # a node without the label is taken too
        {"cpus_per_replica": 60},
        {"cpus_per_replica": 0.1, "min_replicas": 640, "max_replicas": 640},
    ],
)
def test_what_the_nodes_can_hold_passes(placement: dict[str, Any]) -> None:
    assert check_cluster(make_config(teacher={"placement": placement}), Resources(nodes=MIXED), PHASES) == []


def test_replicas_that_a_pool_may_do_without_need_no_nodes() -> None:
    """A training beside them is counted at its most all the same, since it would take their place."""
    placement = {"gpus_per_replica": 4, "max_replicas": 2, "accelerator_type": "A100"}
    training = {"streaming": True, "num_workers": 4, "use_gpu": True, "global_batch_size": 12}
    config = make_config(teacher={"placement": placement}, training=training)
    assert check_cluster(config, Resources(nodes=MIXED), {"live"}) == []


def test_an_autoscaler_at_its_limit_adds_no_nodes() -> None:
    config = make_config(teacher={"placement": {"gpus_per_replica": 8}})
    with pytest.raises(ValueError, match=r"8 GPUs, 1 CPUs\) on one node, .*; ask for less"):
        check_cluster(config, Resources(nodes=MIXED, limits={"CPU": 1000, "GPU": 12}), PHASES)


def test_a_message_shows_the_most_frequent_kinds_of_nodes() -> None:
    nodes = [Node(resources={"CPU": cpus}) for cpus in (1, 2, 3, 4, 5, 6, 7, 7)]
    with pytest.raises(ValueError, match=r"room for 0: 2 x \(0 GPUs, 7 CPUs\), 1 x .*4 CPUs\) and 2 others; ask") as refused:
        check_cluster(make_config(teacher={"placement": {"cpus_per_replica": 8}}), Resources(nodes=nodes), {"generate"})
    assert "\n" not in str(refused.value)


def test_a_phase_that_will_not_run_needs_nothing() -> None:
    config = make_config(teacher={"placement": PLACEMENT})
    assert check_cluster(config, fixed({"CPU": 2}), {"train", "evaluate"}) == []


def test_cpus_of_a_ray_that_is_started_here_are_counted_before_it_is_and_the_way_out_is_named() -> None:
    live = make_config(training={"streaming": True, "num_workers": 2, "global_batch_size": 8}, cluster={"num_cpus": 2})
    refusal = r"live needs 4 CPUs \(student.* 1 x 1 \+ teacher.* 1 x 1 \+ training.num_workers 2 x 1\), .* has 2; set cluster.num_cpus=4"
    with pytest.raises(ValueError, match=refusal):
        check_cpus_here(live, {"live"})
    check_cpus_here(live.model_copy(update={"cluster": live.cluster.model_copy(update={"num_cpus": 4})}), {"live"})
    check_cpus_here(live, {"evaluate"})


def test_a_checkpoint_that_no_node_has_the_memory_to_export_is_refused_before_anything_starts(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    validation = {"fraction": 0.1, "every_steps": 2, "answers": {"every_steps": 2}}
    config = make_config(student={"model": str(model)}, training={"checkpoint_every_steps": 2, "validation": validation})
    small, large = ({"CPU": 4, "memory": size} for size in (2.0**30, 2.0**31))
    with pytest.raises(
        ValueError, match=r"takes 1\.0 GiB of one node's memory, and no node has more than 1\.0 GiB .*add a larger node, or"
    ):
        check_memory(config, fixed(small), PHASES)
    assert check_memory(config, Resources(nodes=[Node(resources=small), Node(resources=large)]), PHASES) == []
    assert check_memory(config, fixed(small), ["generate"]) == []
    assert check_memory(make_config(), fixed(small), PHASES) == []
    (wait,) = check_memory(config, Resources(nodes=[Node(resources=small)], limits={"CPU": 64}), PHASES)
    assert wait.endswith("waiting for the autoscaler to add such a node")


def test_the_cpus_of_a_worker_that_are_taken_from_the_nodes_are_counted() -> None:
    training = {"num_workers": 4, "use_gpu": True, "offload": "optimizer", "streaming": True}

    def planned(cpus_per_replica: int) -> Config:
        teacher = {"placement": {"gpus_per_replica": 2, "cpus_per_replica": cpus_per_replica}}
        return make_config(student={"placement": {"gpus_per_replica": 2}}, teacher=teacher, training=training)

    node = fixed({"CPU": 64, "GPU": 8})
    assert check_cluster(planned(35), node, ["live"]) == []
    with pytest.raises(ValueError, match=r"live needs 65 CPUs .* training.num_workers 4 x 7\), the cluster has 64"):
        check_cluster(planned(36), node, ["live"])
