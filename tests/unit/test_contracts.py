"""What is used of Ray, vLLM and DeepSpeed that they promise to nobody: one test for each, which names what an upgrade has broken.

The sources of vLLM and DeepSpeed are read, not imported, since importing them takes longer than all other checks together.
"""

import ast
import inspect
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

WHEN_BROKEN = "an upgrade changed what {} relies on"


@cache
def tree_of(package: str, file: str) -> ast.Module:
    """The syntax of a file of an installed package."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8"))


def class_of(package: str, file: str, name: str) -> ast.ClassDef:
    found = [node for node in ast.walk(tree_of(package, file)) if isinstance(node, ast.ClassDef) and node.name == name]
    assert found, f"{package}/{file} has no class {name}"
    return found[0]


def parameters_of(owner: ast.ClassDef, method: str) -> list[str]:
    functions = [node for node in owner.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == method]
    assert functions, f"{owner.name} has no {method}"
    arguments = functions[0].args
    return [argument.arg for argument in [*arguments.args, *arguments.kwonlyargs]]


def names_in(owner: ast.AST) -> set[str]:
    """Attributes that are set or read, methods and fields."""
    attributes = {node.attr for node in ast.walk(owner) if isinstance(node, ast.Attribute)}
    functions = {node.name for node in ast.walk(owner) if isinstance(node, ast.FunctionDef)}
    fields = {node.target.id for node in ast.walk(owner) if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    return attributes | functions | fields


def takes(function: Callable[..., Any], *names: str) -> bool:
    return set(names) <= set(inspect.signature(function).parameters)


# Ray Data, used in generation/dataflow.py and generation/pools.


def test_a_stage_gets_blocks_by_map_batches_internal() -> None:
    from ray.data import Dataset

    used = (
        "batch_size",
        "batch_format",
        "compute",
        "num_cpus",
        "num_gpus",
        "fn_constructor_args",
        "accelerator_type",
        "label_selector",
    )
    assert takes(Dataset.map_batches_internal, *used), WHEN_BROKEN.format("Dataflow.run")


def test_an_actor_is_placed_by_ray_remote_args_fn() -> None:
    """Ray 2.64 takes it away: engines that span nodes then want another way into their placement groups."""
    from ray.data import Dataset

    assert takes(Dataset.map_batches_internal, "ray_remote_args_fn"), WHEN_BROKEN.format("EngineGroups.arguments")


def test_an_actor_pool_takes_the_calls_that_an_actor_holds() -> None:
    from ray.data import ActorPoolStrategy

    used = ("min_size", "max_size", "max_tasks_in_flight_per_actor", "max_concurrent_calls_per_actor")
    assert takes(ActorPoolStrategy.__init__, *used), WHEN_BROKEN.format("dataflow._pool")


def test_a_backpressure_policy_is_asked_before_a_task_and_before_output() -> None:
    from ray.data._internal.execution.backpressure_policy import ENABLED_BACKPRESSURE_POLICIES, get_backpressure_policies
    from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy

    assert ENABLED_BACKPRESSURE_POLICIES
    assert takes(BackpressurePolicy.can_add_input, "op"), WHEN_BROKEN.format("StayClose")
    assert takes(BackpressurePolicy.max_task_output_bytes_to_read, "op"), WHEN_BROKEN.format("StayClose")
    assert "self._topology" in inspect.getsource(BackpressurePolicy.__init__)
    assert "ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY" in inspect.getsource(get_backpressure_policies)


def test_operators_tell_what_waits_for_them_and_how_many_processes_they_have() -> None:
    from ray.data._internal.actor_autoscaler.autoscaling_actor_pool import AutoscalingActorPool
    from ray.data._internal.execution.interfaces import PhysicalOperator
    from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
    from ray.data._internal.execution.operators.task_pool_map_operator import TaskPoolMapOperator
    from ray.data._internal.execution.streaming_executor_state import OpState

    assert isinstance(PhysicalOperator.output_dependencies, property)
    assert "input_queues" in inspect.getsource(OpState.__init__)
    assert callable(ActorPoolMapOperator.get_autoscaling_actor_pools)
    assert callable(AutoscalingActorPool.max_size)
    assert callable(TaskPoolMapOperator.get_max_concurrency_limit)


def test_a_callback_is_called_at_each_step_of_the_executor_and_can_empty_its_statistics() -> None:
    from ray.data import DataContext
    from ray.data._internal.execution.execution_callback import ExecutionCallback
    from ray.data._internal.execution.interfaces import PhysicalOperator
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

    assert takes(ExecutionCallback.on_execution_step, "executor"), WHEN_BROKEN.format("ForgetBlocks")
    assert "self._topology" in inspect.getsource(StreamingExecutor)
    assert callable(PhysicalOperator.get_stats)
    assert DataContext().custom_execution_callback_classes == []


def test_the_autoscaler_of_pools_is_an_executors_own_and_pools_tell_their_actors() -> None:
    from ray.data._internal.actor_autoscaler import ActorAutoscaler, ActorPoolScalingRequest, AutoscalingActorPool
    from ray.data._internal.execution.execution_callback import ExecutionCallback
    from ray.data._internal.execution.interfaces import PhysicalOperator
    from ray.data._internal.execution.streaming_executor import StreamingExecutor
    from ray.data._internal.execution.streaming_executor_state import OpState

    broken = WHEN_BROKEN.format("FollowWork")
    assert takes(ExecutionCallback.before_execution_starts, "executor"), broken
    source = inspect.getsource(StreamingExecutor)
    assert source.index("self._actor_autoscaler = ") < source.index(".before_execution_starts(self)"), broken
    assert "self._actor_autoscaler.try_trigger_scaling()" in source, broken
    assert takes(ActorAutoscaler.__init__, "topology", "resource_manager"), broken
    assert takes(ActorPoolScalingRequest.__init__, "delta", "force"), broken
    told = ("running_actors", "active_actors", "restarting_actors", "tasks_in_flight")
    used = ("scale", "get_pending_actor_refs", "min_size", "max_size", "current_size", "max_actor_concurrency")
    assert [name for name in (*(f"num_{each}" for each in told), *used) if not hasattr(AutoscalingActorPool, name)] == [], broken
    assert callable(OpState.total_enqueued_input_blocks)
    assert "self._inputs_complete" in inspect.getsource(PhysicalOperator)


def test_a_checkpoint_is_written_as_pending_and_committed_by_a_new_name() -> None:
    from ray.data.checkpoint.checkpoint_writer import PENDING_CHECKPOINT_SUFFIX, BatchBasedCheckpointWriter

    from cgd_ray.data.durable import PENDING_SUFFIX

    assert f"{PENDING_CHECKPOINT_SUFFIX}.parquet" == PENDING_SUFFIX
    assert 'f"{checkpoint_id}.parquet"' in inspect.getsource(BatchBasedCheckpointWriter.write_pending_checkpoint)


def test_a_checkpoint_manager_may_say_that_nothing_is_left_to_filter() -> None:
    from ray.data.checkpoint import CheckpointConfig, CheckpointManager

    assert takes(CheckpointManager.load_checkpoint, "data_file_dir", "data_file_filesystem"), WHEN_BROKEN.format("_FilteredBeforehand")
    used = ("id_column", "checkpoint_path", "delete_checkpoint_on_success", "checkpoint_manager_cls")
    assert takes(CheckpointConfig.__init__, *used), WHEN_BROKEN.format("dataflow._set")


def test_settings_of_a_data_context_are_still_there() -> None:
    from ray.data import DataContext

    used = ("use_datasource_v2", "enable_progress_bars", "print_on_execution_start", "execution_no_progress_timeout_s")
    lacking = [name for name in (*used, "checkpoint_config") if not hasattr(DataContext(), name)]
    assert lacking == [], WHEN_BROKEN.format("dataflow._set")


def test_ray_matches_node_labels_without_a_cluster() -> None:
    """Used in cluster/capacity.py."""
    from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]

    labels = {"market": "spot"}
    assert node_labels_match_selector(labels, {"market": "spot"})
    assert not node_labels_match_selector(labels, {"market": "in(on-demand)"})


# vLLM, used in engines/vllm_engine.py, engine_thread.py, load.py, repetition.py and adapters.py.


def test_the_engine_is_stepped_by_its_caller() -> None:
    engine = class_of("vllm", "v1/engine/llm_engine.py", "LLMEngine")
    assert parameters_of(engine, "add_request")[:4] == ["self", "request_id", "prompt", "params"]
    assert "lora_request" in parameters_of(engine, "add_request")
    assert "request_ids" in parameters_of(engine, "abort_request")
    assert parameters_of(engine, "step") == parameters_of(engine, "has_unfinished_requests") == ["self"]
    assert {"engine_args", "usage_context"} <= set(parameters_of(engine, "from_engine_args"))


def test_an_output_says_what_is_read_of_it() -> None:
    assert {"request_id", "finished", "outputs", "prompt_token_ids", "num_cached_tokens"} <= names_in(
        class_of("vllm", "outputs.py", "RequestOutput")
    )
    assert {"text", "token_ids", "finish_reason"} <= names_in(class_of("vllm", "outputs.py", "CompletionOutput"))


def test_the_core_in_this_process_is_freed_by_a_finalizer() -> None:
    client = class_of("vllm", "v1/engine/core_client.py", "InprocClient")
    assert {"_finalizer", "engine_core"} <= names_in(client), WHEN_BROKEN.format("_end_without_shutdown")


def test_the_scheduler_tells_how_busy_it_is() -> None:
    scheduler = class_of("vllm", "v1/core/sched/scheduler.py", "Scheduler")
    assert {"requests", "kv_cache_manager", "get_request_counts"} <= names_in(scheduler), WHEN_BROKEN.format("SchedulerWatch")
    assert "usage" in names_in(class_of("vllm", "v1/core/kv_cache_manager.py", "KVCacheManager"))
    assert "num_preemptions" in names_in(class_of("vllm", "v1/request.py", "Request"))
    assert "scheduler" in names_in(class_of("vllm", "v1/engine/core.py", "EngineCore"))


def test_a_running_request_can_be_handed_to_the_check_for_repetition() -> None:
    request = class_of("vllm", "v1/request.py", "Request")
    assert {"output_token_ids", "sampling_params"} <= names_in(request), WHEN_BROKEN.format("RepetitionWatch")
    parameters = names_in(class_of("vllm", "sampling_params.py", "RepetitionDetectionParams"))
    assert {"min_pattern_size", "max_pattern_size", "min_count"} <= parameters, WHEN_BROKEN.format("RepetitionWatch")
    texts = (node.value for node in ast.walk(tree_of("vllm", "v1/engine/__init__.py")) if isinstance(node, ast.Constant))
    assert "repetition" in texts, WHEN_BROKEN.format("FINISH_REASONS")


def test_a_refused_request_raises_an_error_of_clients() -> None:
    refusal = class_of("vllm", "exceptions.py", "VLLMValidationError")
    assert [base.id for base in refusal.bases if isinstance(base, ast.Name)] == ["VLLMClientError"], WHEN_BROKEN.format("_refusals")


@pytest.mark.parametrize(
    ("words", "source"), [("Free memory on device", "v1/worker/utils.py"), ("initialization failed", "v1/engine/utils.py")]
)
def test_a_start_that_may_pass_is_told_in_these_words(words: str, source: str) -> None:
    from cgd_ray.engines.starting import PASSING_WORDS

    assert words in PASSING_WORDS
    texts = (node.value for node in ast.walk(tree_of("vllm", source)) if isinstance(node, ast.Constant))
    assert any(words in text for text in texts if isinstance(text, str)), WHEN_BROKEN.format("engines/starting.py")


def test_ranks_of_adapters_are_a_literal_up_to_the_largest_that_is_allowed() -> None:
    from cgd_ray.engines.adapters import LARGEST_RANK

    assigned = {
        node.targets[0].id: node.value
        for node in tree_of("vllm", "config/lora.py").body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    ranks = assigned["MaxLoRARanks"]
    assert isinstance(ranks, ast.Subscript)
    assert max(ast.literal_eval(ranks.slice)) == LARGEST_RANK


def test_fields_of_the_sampling_are_still_there() -> None:
    fields = names_in(class_of("vllm", "sampling_params.py", "SamplingParams"))
    used = {"min_p", "repetition_penalty", "min_tokens", "logit_bias", "stop_token_ids", "output_kind", "detokenize", "seed"}
    assert used <= fields, WHEN_BROKEN.format("sampling_params")


def test_arguments_of_the_engine_are_still_there() -> None:
    from cgd_ray.config import MEMORY_ARGUMENTS
    from cgd_ray.config.roles import OWNED_ARGUMENTS

    arguments = names_in(class_of("vllm", "engine/arg_utils.py", "EngineArgs"))
    lacking = {*OWNED_ARGUMENTS, *MEMORY_ARGUMENTS, "seed", "load_format", "disable_log_stats"} - arguments
    assert lacking == set(), WHEN_BROKEN.format("config/roles.py")


ZERO_OWNERS = {
    "runtime/fp16/unfused_optimizer.py": ["fp16_groups", "fp32_groups"],
    "runtime/zero/stage_1_and_2.py": ["single_partition_of_fp32_groups", "update_lp_params", "_hp_mapping"],
    "runtime/bf16_optimizer.py": ["fp32_groups_flat_partition", "update_lp_params", "_hp_mapping"],
    "runtime/zero/stage3.py": [
        "grad_position",
        "get_param_id",
        "fp32_partitioned_groups_flat",
        "fp16_partitioned_groups_flat",
        "fp16_partitioned_groups",
        "unflatten",
        "persistent_parameters",
        "checkpoint_event_prologue",
        "checkpoint_event_epilogue",
    ],
    "runtime/zero/partition_parameters.py": ["ds_numel", "partition"],
    "utils/tensor_fragment.py": ["lp_fragment_address", "hp_fragment_address", "param_group_index", "start", "numel"],
}
"""File of DeepSpeed -> what training/model/zero_state.py reads of its objects."""


@pytest.mark.parametrize(("file", "names"), ZERO_OWNERS.items(), ids=ZERO_OWNERS)
def test_deepspeed_keeps_weights_and_moments_where_they_are_read(file: str, names: Sequence[str]) -> None:
    lacking = set(names) - names_in(tree_of("deepspeed", file))
    assert lacking == set(), WHEN_BROKEN.format("training/model/zero_state.py")
