"""A plan refuses what cannot work with the arithmetic, and what it offers instead works when it is pasted."""

from pathlib import Path

import pytest

from cgd_ray.planning.hardware import Machines
from cgd_ray.planning.plan import make_plan
from cgd_ray.planning.table import lines_of
from tests.unit.planning.made_plans import config_of, h100_nodes

MENDED = {
    "a 70B model on one GPU": (["teacher.placement.gpus_per_replica=1"], 2, "less than one request of context_length"),
    "a 70B model on two GPUs with a long context": (
        ["teacher.placement.gpus_per_replica=2", "teacher.context_length=131072"],
        2,
        "GiB of weights",
    ),
    "heads that GPUs do not divide": (["teacher.placement.gpus_per_replica=6"], 2, "which does not divide the 64 heads"),
    "a context beyond the model's": (["student.context_length=200000"], 2, "was made for 131072 tokens"),
    "an optimizer that does not fit": (["training.zero_stage=0"], 2, "optimizer"),
    "activations that do not fit": (["training.context_length=65536", "training.activation_checkpointing=false"], 2, "activations"),
    "one GPU for an 8B training": (["training.num_workers=1"], 2, "a rank needs"),
    "more workers than GPUs": (["training.num_workers=24"], 2, "train needs 24 GPUs (training.num_workers 24 x 1), the cluster has 16"),
    "an engine larger than any node": (
        ["teacher.placement.gpus_per_replica=12"],
        2,
        "teacher.placement.min_replicas 1 x (12 GPUs, 1 CPUs)",
    ),
    "GPUs of a kind that is not there": (["student.placement.accelerator_type=H200"], 2, "accelerator_type H200"),
    "more engines than GPUs": (["student.placement={gpus_per_replica: 1, min_replicas: 20, max_replicas: 20}"], 2, "the cluster has 16"),
}
"""What is tried, on how many nodes of eight H100, and a part of what refuses it."""


def pasted(remedy: str) -> list[str]:
    """The overrides at the end of a refusal."""
    return [word for word in remedy.split() if "=" in word]


@pytest.mark.parametrize("name", MENDED)
def test_what_cannot_work_is_refused_with_a_change_that_works(name: str, tmp_path: Path) -> None:
    overrides, nodes, words = MENDED[name]
    plan = make_plan(config_of(tmp_path, *overrides), h100_nodes(nodes))
    assert plan.refusal is not None
    assert words in plan.refusal
    remedies = [word for finding in plan.findings if finding.refuses for word in pasted(finding.remedy)]
    assert remedies
    assert make_plan(config_of(tmp_path, *overrides, *remedies), h100_nodes(nodes)).refusal is None


def test_pieces_that_fit_alone_and_not_together_are_found_by_packing_them(tmp_path: Path) -> None:
    config = config_of(tmp_path, "teacher.placement.gpus_per_replica=8", "student.placement.gpus_per_replica=1")
    nodes = Machines(nodes=(*h100_nodes(1).nodes, *h100_nodes(1, gpus=4).nodes))
    assert make_plan(config, nodes, like=None).refusal != ""
    crowded = config_of(tmp_path, "student.placement.gpus_per_replica=8", "training.num_workers=8", "training.zero_stage=3")
    refusal = make_plan(crowded, Machines(nodes=(*h100_nodes(1).nodes, *h100_nodes(2, gpus=4).nodes))).refusal
    assert refusal is not None
    assert "not on these nodes together" in refusal


def test_the_published_pair_fits_on_two_nodes_and_its_table_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    plan = make_plan(config, h100_nodes(2))
    assert plan.refusal is None
    lines = list(lines_of(plan, config))
    assert lines[-1].startswith("plan: fits; ")
    assert "GPU-hours" in lines[-1]
    assert "in money" in lines[-1]


def test_a_problem_set_that_is_elsewhere_is_planned_by_its_limit(tmp_path: Path) -> None:
    plan = make_plan(config_of(tmp_path, "problems.path=owner/name", "problems.limit=5000"), h100_nodes(2))
    assert plan.work.rows == 5000
    assert any("not on this machine" in finding.text for finding in plan.findings)


def test_what_an_autoscaler_may_add_counts(tmp_path: Path) -> None:
    assert make_plan(config_of(tmp_path), h100_nodes(0, most=2)).refusal is None


def test_a_packed_row_may_be_longer_than_the_model_was_made_for(tmp_path: Path) -> None:
    plan = make_plan(config_of(tmp_path, "student.model=Qwen/Qwen2.5-Math-7B", "student.context_length=4096"), h100_nodes(2))
    longer = make_plan(
        config_of(tmp_path, "student.model=Qwen/Qwen2.5-Math-7B", "student.context_length=4096", "training.context_length=8192"),
        h100_nodes(2),
    )
    assert plan.refusal is None
    assert longer.refusal is None
    assert any("packed examples" in finding.text for finding in longer.findings)


def test_a_driver_that_is_too_slow_for_the_engines_gets_larger_batches(tmp_path: Path) -> None:
    many = ["student.placement.max_replicas=8"]
    fast = ["teacher.model=HuggingFaceTB/SmolLM2-135M-Instruct", "teacher.placement={gpus_per_replica: 1, max_replicas: 24}"]
    cluster = h100_nodes(4)
    short = ["student.sampling.max_tokens=64", "teacher.sampling.max_tokens=64", "teacher.context_length=2048"]
    plan = make_plan(config_of(tmp_path, *many, *fast, *short), cluster)
    finding = next(finding for finding in plan.findings if "one driver hands out" in finding.text)
    assert finding.overrides["generation.batch_size"] > 16
    again = make_plan(config_of(tmp_path, *many, *fast, *short, *pasted(finding.remedy)), cluster)
    assert not any("one driver hands out" in finding.text for finding in again.findings)


def test_a_request_that_may_fit_is_told_of_and_not_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, "teacher.placement.gpus_per_replica=2", "teacher.context_length=40000")
    plan = make_plan(config, h100_nodes(2))
    assert plan.refusal is None
    assert any("less than one request" in finding.text for finding in plan.findings)


def test_an_engine_that_is_quantised_as_it_loads_is_not_judged(tmp_path: Path) -> None:
    config = config_of(tmp_path, "teacher.placement.gpus_per_replica=1", "teacher.engine={quantization: fp8, cpu_offload_gb: 20}")
    assert make_plan(config, h100_nodes(2)).refusal is None


def test_nodes_of_unknown_kinds_may_still_come(tmp_path: Path) -> None:
    head = Machines.model_validate({"nodes": [{"cpus": 8, "memory_gib": 32}], "limits": {"GPU": 16, "CPU": 400}})
    config = config_of(tmp_path)
    plan = make_plan(config, head)
    assert plan.refusal is None
    assert "of a memory that is not known yet" in "".join(lines_of(plan, config))
    assert make_plan(config_of(tmp_path, "training.num_workers=17"), head).refusal is not None


def test_an_endpoint_costs_what_its_prices_say(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "teacher.placement.gpus_per_replica=0",
        "teacher.api={base_url: https://api.example.org/v1, price_per_million_input_tokens: 3, price_per_million_output_tokens: 15}",
    )
    plan = make_plan(config, h100_nodes(2))
    tokens = plan.work.teacher
    expected = (tokens.prompt.likely + tokens.cached.likely) * 3e-6 + tokens.generated.likely * 15e-6
    generation = plan.phases[0]
    assert generation.money is not None
    assert generation.money.likely >= expected
