"""The one file that imports vLLM: its synchronous engine, in this process, stepped by a thread (engine_thread.py).

Why not the asynchronous engine: its core lives in a second process, which takes 2.7 times as long to start and 1.3 to 1.7 times the
CPU for a token (benchmarks/front_end.py).
How to use: `engine = VllmEngine(role); generation = await engine.generate(messages, role.sampling, seed=0)`.
"""

import dataclasses
import gc
import importlib.util
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from filelock import FileLock

from cgd_ray.config import PlacementConfig, RoleConfig, SamplingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.json_text import read_object
from cgd_ray.data.prompts import Message
from cgd_ray.engines.adapters import read_adapter
from cgd_ray.engines.engine import Generation, OnDeath, OnLoad, encode_prompt, token_budget
from cgd_ray.engines.engine_thread import EngineThread
from cgd_ray.engines.load import SchedulerWatch
from cgd_ray.engines.repetition import kept_tokens, watch_of

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.llm_engine import LLMEngine

ENGINE_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the core runs in this process
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",  # looking for plugins imports packages that are not needed
}
CPU_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several engines share the cores
    "OMP_NUM_THREADS": "1",
}
SHARED_GPU_MEMORY = 0.9
"""Of a GPU that engines share, what they take together, each its share of it; the rest is for what CUDA and captured graphs hold."""
MAX_CPU_CACHE_BYTES = 2**30
CPU_BLOCK_SIZE = 32
"""Tokens of one block of keys and values, the unit in which prefixes are shared; the least that vLLM's CPU attention knows. With vLLM's
default of 128 a refinement finds 64 % of what it shares with its critique in the cache instead of 90 % (benchmarks/prefix_cache.py)."""


class VllmEngine:
    """An Engine on vLLM. Raises ValueError, in one line, when vLLM refuses the role's settings."""

    def __init__(self, role: RoleConfig) -> None:
        self._role = role
        self.chat = Chat.of(role)
        # some models mark their thinking with special tokens, which else are no part of the text
        marks = "" if self.chat.thinking is None else self.chat.thinking.start + self.chat.thinking.end
        self._shown = self.chat.special_ids_in(marks)
        self._engine = _start_engine(role)
        adapter = None if role.adapter is None else _adapter_request(role.adapter)
        self._thread = EngineThread(self._engine, role, adapter, _refusals(), **_watches(self._engine, role.sampling))

    async def generate(self, messages: Sequence[Message], sampling: SamplingConfig, seed: int) -> Generation:
        """The assistant's next turn. Raises RequestError for a prompt that fills the context or that vLLM refuses."""
        input_ids = encode_prompt(self.chat, messages)
        budget = token_budget(len(input_ids), self._role.context_length, sampling.max_tokens)
        return await self._answer(input_ids, self.sampling_params(sampling, budget, seed))

    async def conclude(self, messages: Sequence[Message], beginning: str, choices: Sequence[str]) -> Generation:
        """The end of the assistant's next turn, which has this beginning: one of the choices, by vLLM's structured outputs."""
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        input_ids = self.chat.begun(messages, beginning)
        longest = max(len(self.chat.encode(choice)) for choice in choices) + 1
        params = sampling_params(
            SamplingConfig(),
            max_tokens=token_budget(len(input_ids), self._role.context_length, longest),
            structured_outputs=StructuredOutputsParams(choice=list(choices)),
            stop_token_ids=[self.chat.end_token_id],
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )
        return await self._answer(input_ids, params)

    async def _answer(self, input_ids: list[int], params: "SamplingParams") -> Generation:
        output = await self._thread.generate(input_ids, params)
        completion = output.outputs[0]
        ids = kept_tokens(completion.token_ids, completion.finish_reason, self._role.sampling)
        detokenized = params.detokenize and completion.finish_reason != "repetition"  # that text goes further into the loop than ids
        return Generation(
            text=completion.text if detokenized else self.chat.decode_answer(input_ids, ids, self._shown),
            num_tokens=len(completion.token_ids),
            prompt_tokens=len(output.prompt_token_ids or ()),
            cached_tokens=output.num_cached_tokens or 0,
            finish_reason=completion.finish_reason,
        )

    def observe(self, on_load: OnLoad, on_death: OnDeath) -> None:
        """Tell from now on how busy the engine is, and what it dies of."""
        self._thread.observe(on_load, on_death)

    def close(self) -> None:
        """Stop the thread and free the engine's memory."""
        self._thread.close()
        self._engine.engine_core.shutdown()

    def sampling_params(self, sampling: SamplingConfig, max_tokens: int, seed: int) -> "SamplingParams":
        """The settings in vLLM's words. Raises ValueError where vLLM refuses them.

        A seed costs a generator per request, so greedy decoding gets none. Text after every token, which only stop strings need, costs
        the thread that steps the engine 16 microseconds a token.
        """
        from vllm.sampling_params import RequestOutputKind

        return sampling_params(
            sampling,
            max_tokens=max_tokens,
            seed=seed if self._role.seeds_requests and sampling.temperature > 0 else None,
            # a base model's own settings may name another one
            stop_token_ids=[self.chat.end_token_id, *sampling.stop_token_ids],
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=bool(sampling.stop),
            skip_special_tokens=not self._shown,
        )


def sampling_params(sampling: SamplingConfig, max_tokens: int, **fields: Any) -> "SamplingParams":
    """The user's settings and further fields in vLLM's words. Raises ValueError, in one line, where it refuses them."""
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import SamplingParams

    try:
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or 0,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            max_tokens=max_tokens,
            min_tokens=min(sampling.min_tokens, max_tokens),  # the context may leave less room
            logit_bias=dict(sampling.logit_bias) or None,
            stop=list(sampling.stop) or None,
            **fields,
            **_extra_fields(sampling.extra),
        )
    except (ValueError, TypeError, VLLMClientError) as error:
        raise ValueError(f"vLLM refuses sampling: {' '.join(str(error).split())}") from None


def _extra_fields(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Further fields of SamplingParams, with those that are objects made from mappings. Raises ValueError for a name that vLLM ignores."""
    from vllm.sampling_params import RepetitionDetectionParams, SamplingParams, StructuredOutputsParams

    made = {"structured_outputs": StructuredOutputsParams, "repetition_detection": RepetitionDetectionParams}
    known = {name for name in SamplingParams.__struct_fields__ if not name.startswith("_")}
    known |= {f"{name}.{field.name}" for name, kind in made.items() for field in dataclasses.fields(kind)}
    given = {*extra, *(f"{name}.{field}" for name in made for field in extra.get(name, ()))}
    if unknown := given - known:
        raise ValueError(f"extra.{min(unknown)} is nothing that it knows; remove it")
    return {name: made[name](**value) if name in made else value for name, value in extra.items()}


def engine_arguments(role: RoleConfig) -> dict[str, Any]:
    """vLLM's engine arguments of a role; `role.engine` has the last word on those that no other setting is."""
    gpus, nodes = role.placement.gpus_per_replica, role.placement.nodes_per_replica
    defaults: dict[str, Any] = {
        "model": role.model,
        "max_model_len": role.context_length,
        "max_num_seqs": role.placement.requests_in_flight,
        "enable_prefix_caching": True,
        "block_size": None if gpus else CPU_BLOCK_SIZE,
        "enforce_eager": gpus == 0,  # compiling for the CPU takes longer than most CPU runs
        "tensor_parallel_size": max(1, int(gpus)),
        "pipeline_parallel_size": nodes,
        "distributed_executor_backend": "ray" if nodes > 1 else "mp" if gpus > 1 else None,  # ray: in the group that groups.py has made
        "load_format": "safetensors",  # other formats can run code when loaded
        "kv_cache_memory_bytes": None if gpus else cpu_cache_bytes(role),
        **({"gpu_memory_utilization": SHARED_GPU_MEMORY * gpus} if role.placement.shares_gpu else {}),
        # with vLLM's constant one, two replicas that begin with the samples of one problem would draw the same for them
        **({} if role.seeds_requests else {"seed": secrets.randbits(31)}),
        "disable_log_stats": True,
        "trust_remote_code": False,
    }
    if role.adapter is not None:
        from vllm.config.lora import MaxLoRARanks

        rank = read_adapter(role.adapter).rank
        defaults |= {"enable_lora": True, "max_lora_rank": min(size for size in get_args(MaxLoRARanks) if size >= rank)}
    return {**defaults, **role.engine}


def cpu_cache_bytes(role: RoleConfig) -> int:
    """Memory for keys and values on a CPU: what all requests together can fill, at most 1 GiB.

    vLLM fills the cache with zeros at the start, which takes seconds for each GiB; engine.kv_cache_memory_bytes has the last word.
    """
    file = Path(role.model) / "config.json"
    shape = read_object(file) if file.is_file() else {}
    if not shape.keys() >= {"num_hidden_layers", "num_key_value_heads", "head_dim"}:
        return MAX_CPU_CACHE_BYTES
    num_bytes = 4 if role.engine.get("dtype") == "float32" else 2
    bytes_per_token: int = 2 * num_bytes * shape["num_hidden_layers"] * shape["num_key_value_heads"] * shape["head_dim"]
    return min(MAX_CPU_CACHE_BYTES, bytes_per_token * role.context_length * (role.placement.requests_in_flight + 1))


def set_environment(on_cpu: bool) -> None:
    """Defaults that vLLM and torch read when they are imported; what is set already stays."""
    for name, value in {**ENGINE_ENVIRONMENT, **(CPU_ENVIRONMENT if on_cpu else {})}.items():
        os.environ.setdefault(name, value)
    if importlib.util.find_spec("vllm") is None:
        raise ValueError("vLLM is not installed; install the extra `cpu` or `gpu` of this project on every node")


def _start_engine(role: RoleConfig) -> "LLMEngine":
    """Import vLLM and load the model, without the garbage collector, which would walk a million imported objects again and again."""
    set_environment(on_cpu=role.placement.gpus_per_replica == 0)
    gc.disable()
    try:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        _check_build(role, on_cpu=current_platform.is_cpu())
        sampling_params(role.sampling, role.sampling.max_tokens)  # refused now, before the model is loaded

        gc.freeze()
        with gpu_to_itself(role.placement):
            # the context in which vLLM chooses its defaults for throughput: eight times the tokens of a step on large GPUs, twice on CPUs
            engine = LLMEngine.from_engine_args(EngineArgs(**engine_arguments(role)), usage_context=UsageContext.LLM_CLASS)
    finally:
        gc.enable()
    if role.placement.gpus_per_replica == 0:
        _end_without_shutdown(engine)
    return engine


def _end_without_shutdown(engine: "LLMEngine") -> None:
    """Leave the memory of an engine in this process to the process's end.

    vLLM frees it at the interpreter's exit by collecting garbage among all objects, again and again: 2.6 s of a core, which the other
    engines could use. On GPUs it stays so, where torch warns of process groups that are left. An engine in another process has to be told
    to end.
    """
    from vllm.v1.engine.core_client import InprocClient

    if isinstance(engine.engine_core, InprocClient):
        engine.engine_core._finalizer.atexit = False


@contextmanager
def gpu_to_itself(placement: PlacementConfig) -> Iterator[None]:
    """One start at a time on a GPU that engines share: vLLM measures what its own takes, and counts in what another takes meanwhile."""
    if not placement.shares_gpu:
        yield
        return
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")  # the one that Ray has given to this actor
    with FileLock(Path(tempfile.gettempdir()) / f"cgd_ray_{os.getuid()}_gpu_{gpu}.lock"):
        yield


def _check_build(role: RoleConfig, on_cpu: bool) -> None:
    """Raise ValueError where the engine would use other devices than Ray has reserved for it."""
    gpus = role.placement.gpus_per_replica
    if on_cpu and gpus:
        raise ValueError(
            f"placement.gpus_per_replica of {role.model} is {gpus:g}, vLLM here is its CPU build; install the extra `gpu` or set 0"
        )
    if not on_cpu and not gpus:
        raise ValueError(f"placement.gpus_per_replica of {role.model} is 0, vLLM here runs on GPUs; set it to 1 or a share of one")


def _watches(engine: "LLMEngine", sampling: SamplingConfig) -> dict[str, Any]:
    """What looks at the scheduler of an engine whose core is in this process, as it is unless the environment says otherwise."""
    from vllm.sampling_params import RepetitionDetectionParams
    from vllm.v1.engine.core_client import InprocClient

    if not isinstance(engine.engine_core, InprocClient):
        return {}
    scheduler = engine.engine_core.engine_core.scheduler
    return {"measure": SchedulerWatch(scheduler), "after_step": watch_of(scheduler, sampling, RepetitionDetectionParams)}


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it does not take; it has errors of its own, which are no ValueErrors, and older ones."""
    from vllm.exceptions import VLLMClientError

    return (ValueError, VLLMClientError)


def _adapter_request(directory: str) -> "LoRARequest":
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, directory)
