"""The two models: how each decodes, where it runs, or which endpoint serves it."""

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cgd_ray.config.base import Added, Count, Settings
from cgd_ray.config.sampling import SamplingConfig

Price = Annotated[float, Field(ge=0.0)]


class PlacementConfig(Settings):
    """How many engines of one role there are and what each of them holds."""

    min_replicas: Count = 1
    """Engines without which generation does not begin."""
    max_replicas: Count = 1
    """Engines to which the pool grows while rows wait and the cluster has room; they stay until the role has no more rows."""
    cpus_per_replica: Annotated[float, Field(ge=0.0)] = 1.0
    """Ray CPUs reserved by one engine actor."""
    gpus_per_replica: Annotated[float, Field(ge=0.0)] = 0.0
    """GPUs of one engine on each of its nodes = its tensor-parallel size; 0.5, or another share of one GPU, leaves the rest of its memory
    to other engines, such as the other role's; 0 where vLLM's CPU build is installed."""
    nodes_per_replica: Count = 1
    """Nodes that one engine is spread over = its pipeline-parallel size, for models that one node's GPUs cannot hold."""
    accelerator_type: str | None = None
    """Ray accelerator type to ask for, e.g. H100."""
    label_selector: Mapping[str, str] = Field(default_factory=dict)
    """Ray node labels to ask for, e.g. {ray.io/market-type: on-demand}."""
    requests_in_flight: Count = 128
    """Requests that one engine holds at once, at most: fewer while it lacks memory for so many."""

    @model_validator(mode="after")
    def _min_below_max(self) -> "PlacementConfig":
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} exceeds max_replicas {self.max_replicas}; raise max_replicas")
        return self

    @model_validator(mode="after")
    def _gpus_are_whole_or_a_share_of_one(self) -> "PlacementConfig":
        if self.gpus_per_replica > 1 and not self.gpus_per_replica.is_integer():
            raise ValueError(f"gpus_per_replica is {self.gpus_per_replica:g}; an engine has whole GPUs, or a share of a single one")
        return self

    @model_validator(mode="after")
    def _several_nodes_need_gpus_and_a_fixed_pool(self) -> "PlacementConfig":
        if self.nodes_per_replica > 1 and (self.gpus_per_replica < 1 or self.min_replicas != self.max_replicas):
            raise ValueError(
                f"nodes_per_replica is {self.nodes_per_replica} with gpus_per_replica {self.gpus_per_replica:g} and replicas from "
                f"{self.min_replicas} to {self.max_replicas}; an engine on several nodes needs GPUs and a pool of fixed size"
            )
        return self

    @property
    def shares_gpu(self) -> bool:
        """Whether other engines may be on the engine's GPU."""
        return 0 < self.gpus_per_replica < 1

    @property
    def gpus_of_replica(self) -> float:
        """GPUs of one engine on all its nodes."""
        return self.gpus_per_replica * self.nodes_per_replica


MEMORY_ARGUMENTS = (
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "kv_offloading_size",
    "cpu_offload_gb",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enforce_eager",
)
"""Engine arguments that only say how vLLM uses its memory. They change which requests share a step and which kernels run, so what is
generated stays the same but for rounding, as with another number of GPUs. All others may change it and are part of the fingerprints."""


OWNED_ARGUMENTS = {
    "model": "set model",
    "tokenizer": "it is the model's own: remove it",
    "revision": "training and fingerprints would take another one: set model to a directory with that revision",
    "max_model_len": "set context_length",
    "tensor_parallel_size": "set placement.gpus_per_replica",
    "pipeline_parallel_size": "set placement.nodes_per_replica",
    "data_parallel_size": "set placement.min_replicas and max_replicas",
    "distributed_executor_backend": "it follows from placement: remove it",
    "enable_lora": "set adapter",
    "trust_remote_code": "a model's own code is never run: convert the model or remove it",
}
"""Engine arguments that other settings decide, which would be at odds with them or with what Ray has reserved, and what to do instead."""


class ThinkingConfig(Settings):
    """How a reasoning model marks its thinking."""

    start: str = "<think>"
    """Begins it; the chat template may have written it already."""
    end: str = "</think>"
    """Ends it; the answer follows."""
    separate: Annotated[bool, Added()] = True
    """False leaves thoughts in the text: the other model sees them, and they are trained."""


class ApiConfig(Settings):
    """An OpenAI-compatible endpoint that serves a role, in place of an engine of this project's own."""

    base_url: str
    """Address of the endpoint up to its version, e.g. https://api.openai.com/v1."""
    key_variable: str | None = None
    """Name of the environment variable that holds the key on every node; the key itself is written nowhere. Null sends none."""
    request_timeout_s: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds from the sending of a request to the end of its answer; a slower one is tried again."""
    max_retries: Annotated[int, Field(ge=0)] = 8
    """Further tries, ever longer apart, after overload, server errors, cut connections, unusable answers; then the row fails, or the
    run ends where the endpoint is down."""
    request_fields: Mapping[str, Any] = Field(default_factory=dict)
    """Fields of every request with the last word; null leaves one out, e.g. {max_tokens: null, max_completion_tokens: 8192}."""
    price_per_million_input_tokens: Price | None = None
    """What 1,000,000 tokens of prompts cost; null keeps no account of money."""
    price_per_million_cached_tokens: Price | None = None
    """The same for those of them that the endpoint reports as found in its cache; null: they cost what all prompts cost."""
    price_per_million_output_tokens: Price | None = None
    """What 1,000,000 generated tokens cost."""
    currency: str = "USD"
    """Of the prices; for messages only."""
    max_tokens_total: Count | None = None
    """Tokens of prompts and answers after which the run ends; it can be resumed with a higher limit. Null sets none."""
    max_cost: Annotated[float, Field(gt=0.0)] | None = None
    """Money after which the run ends, in the same way; needs the prices. Requests on their way are still finished and paid."""

    @model_validator(mode="after")
    def _address_and_key_are_apart(self) -> "ApiConfig":
        # what is in these fields by mistake may be a key, so the messages do not repeat it
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("base_url is no address; write it like https://api.openai.com/v1")
        if url.username is not None or url.password is not None or url.query or url.fragment:
            raise ValueError("base_url holds more than an address, perhaps a key; name its variable in key_variable")
        if self.key_variable is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", self.key_variable):
            raise ValueError("key_variable is no name of an environment variable (capitals, digits and _); give the name, never the key")
        return self

    @model_validator(mode="after")
    def _money_has_prices(self) -> "ApiConfig":
        prices = (self.price_per_million_input_tokens, self.price_per_million_output_tokens)
        if self.max_cost is not None and None in prices:
            raise ValueError(
                f"max_cost is {self.max_cost:g}, but price_per_million_input_tokens is {prices[0]} and price_per_million_output_tokens "
                f"is {prices[1]}; set both prices"
            )
        return self


ENGINE_ONLY = {
    "engine": "engine arguments are vLLM's: remove one of the two",
    "revision": "the endpoint has its own models: remove one of the two",
    "adapter": "the endpoint has its own models: remove one of the two",
    "chat_template": "the endpoint has its own template: remove one of the two",
    "request_timeout_s": "it has no effect on an endpoint: set api.request_timeout_s instead",
    "stall_timeout_s": "it has no effect on an endpoint: remove it, api.request_timeout_s is the limit there",
}
"""Settings of a role that mean nothing where an endpoint serves it, and what to do about one that is given."""


OWNED_TEMPLATE_ARGUMENTS = {
    "add_generation_prompt": "it is true for a prompt and false for a finished conversation: remove it",
    "continue_final_message": "an answer always begins a new message: remove it",
    "messages": "they are the conversation: remove it",
    "conversation": "it is the messages: remove it",
    "chat_template": "set chat_template of the role to a .jinja file",
    **dict.fromkeys(
        ("tokenize", "return_dict", "return_tensors", "return_assistant_tokens_mask", "tokenizer_kwargs"),
        "how the text becomes tokens is decided here: remove it",
    ),
    **dict.fromkeys(("padding", "truncation", "max_length"), "nothing is cut or padded here: remove it"),
}
"""Arguments of apply_chat_template that are decided here, and what to do instead."""


class RoleConfig(Settings):
    """One model in one role: student or teacher."""

    model: str
    """Local directory in Hugging Face format (safetensors, tokenizer, chat template) or a hub name; with `api` its name there."""
    revision: Annotated[str | None, Added()] = None
    """Branch, tag or commit of a model on the hub; null takes its main branch. The commit is settled when the run begins."""
    adapter: str | None = None
    """Directory of a LoRA adapter, as peft saves it, that the model answers with; training starts from the sum of both. Null: none."""
    api: ApiConfig | None = None
    """Endpoint that serves the model, for the teacher only; null runs it here with vLLM."""
    context_length: Count = 8192
    """Longest prompt plus generation in tokens; an endpoint has its own."""
    sampling: SamplingConfig = SamplingConfig()
    """Decoding settings of this role."""
    placement: PlacementConfig = PlacementConfig()
    """Replicas and their resources."""
    engine: Mapping[str, Any] = Field(default_factory=dict)
    """Further vLLM engine arguments, passed through, e.g. {gpu_memory_utilization: 0.9, dtype: float16}. Those that other settings decide
    are refused. Without dtype it is bfloat16 where the engines' devices compute it natively, else float32, settled when the run begins."""
    chat_template_kwargs: Mapping[str, Any] = Field(default_factory=dict)
    """Arguments of the model's chat template, e.g. {enable_thinking: false}; the day that a template asks for, as {date_string: 1 Dec 2026}
    where it knows that one."""
    chat_template: str | None = None
    """A .jinja file with the chat template of a model that has none, such as most base models; it writes a BOS where one belongs."""
    thinking: ThinkingConfig | None = None
    """For reasoning models: how they mark what they think, which goes into a column of its own; a thought that never ends counts as
    truncated. Null takes the marks of the model's family from its template or vocabulary, {separate: false} leaves thoughts in the text."""
    request_timeout_s: Annotated[float, Field(gt=0.0)] = 1800.0
    """Seconds one generation may take before its row fails; an endpoint has `api.request_timeout_s`."""
    stall_timeout_s: Annotated[float, Field(gt=0.0)] = 300.0
    """An engine that has requests and takes no step for so many seconds is replaced, and its rows are repeated."""

    @model_validator(mode="after")
    def _arguments_have_one_owner(self) -> "RoleConfig":
        for name, remedy in OWNED_ARGUMENTS.items():
            if name in self.engine:
                raise ValueError(f"engine.{name} is {self.engine[name]!r}; {remedy}")
        return self

    @model_validator(mode="after")
    def _template_arguments_have_one_owner(self) -> "RoleConfig":
        for name, remedy in OWNED_TEMPLATE_ARGUMENTS.items():
            if name in self.chat_template_kwargs:
                raise ValueError(f"chat_template_kwargs.{name} is {self.chat_template_kwargs[name]!r}; {remedy}")
        return self

    @model_validator(mode="after")
    def _memory_is_the_share(self) -> "RoleConfig":
        share, used = self.placement.gpus_per_replica, self.engine.get("gpu_memory_utilization")
        if self.placement.shares_gpu and used is not None and used > share:
            raise ValueError(
                f"engine.gpu_memory_utilization is {used} and placement.gpus_per_replica {share:g}; remove it, or lower it to that"
            )
        return self

    @property
    def seeds_requests(self) -> bool:
        """Whether what is drawn for a generation follows from the seed of its row."""
        asked = self.sampling.seed_per_request
        return self.placement.gpus_per_replica == 0 if asked is None else asked

    @model_validator(mode="after")
    def _engine_or_api(self) -> "RoleConfig":
        for name, remedy in () if self.api is None else ENGINE_ONLY.items():
            value = getattr(self, name)
            # by value: in a config that was dumped and is read again every setting is given
            if value != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"{name} is {value} and api is set; {remedy}")
        if self.api is not None and self.sampling.extra:
            raise ValueError(f"sampling.extra is {dict(self.sampling.extra)} and api is set; it is vLLM's: set api.request_fields instead")
        return self
