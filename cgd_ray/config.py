"""Every setting of a run, typed and documented once, under its field.

Why one frozen tree: a run is a function of its config, so the resolved copy in the run directory says all there is to know about it.
How to use: `config = load_config("jobs/configs/tinymath.yaml", ["training.learning_rate=1e-4"])`; `cgd config CONFIG` prints the
result with these docs. Nothing heavy (torch, ray, vllm) is imported here.
"""

import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Price = Annotated[float, Field(ge=0.0)]
SHARES_TOLERANCE = 1e-6  # a third is written 0.333333
ArmName = Literal["cgd", "refined_only", "sft", "distilled_sft", "cft", "cgd_without_attempt", "cgd_without_critique"]
VerdictName = Literal["right", "wrong"]


def _check_workers(value: Any) -> Any:
    sizes = value if isinstance(value, list | tuple) else (value,)
    if len(sizes) not in (1, 2) or any(type(size) is not int or size < 1 for size in sizes) or sizes[0] > sizes[-1]:
        raise ValueError(f"{value!r} is neither a number of workers nor [fewest, most]; give for instance 4 or [2, 8]")
    return value


def _check_arm(value: Any) -> Any:
    if not isinstance(value, str | Mapping):
        raise ValueError(f"{value!r} is neither an arm nor shares of arms; give for instance cgd or {{cgd: 0.8, refined_only: 0.2}}")
    _check_shares({value: 1.0} if isinstance(value, str) else value, "arm", typing.get_args(ArmName))
    return value


def _check_verdict_mix(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no mapping of verdicts to shares; give for instance {{right: 0.5, wrong: 0.5}}")
    _check_shares(value, "verdict", typing.get_args(VerdictName))
    return value


def _check_shares(shares: Mapping[Any, Any], noun: str, valid: Sequence[str]) -> None:
    for name, share in shares.items():
        if name not in valid:
            raise ValueError(f"{name!r} is no {noun}; valid here: {', '.join(valid)}")
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise ValueError(f"the share of {name} is {share!r}; give a number from 0 to 1")
    if abs((total := sum(shares.values())) - 1) > SHARES_TOLERANCE:
        raise ValueError(f"the shares {dict(shares)} add up to {total:g}, not to 1; change one of them")


Arm = Annotated[ArmName | Mapping[ArmName, float], BeforeValidator(_check_arm)]
VerdictMix = Annotated[Mapping[VerdictName, float], BeforeValidator(_check_verdict_mix)]
Workers = Annotated[int | tuple[int, int], BeforeValidator(_check_workers)]

EXECUTION_ONLY = (
    "run_dir",
    "cluster",
    "student.placement",
    "teacher.placement",
    "student.request_timeout_s",
    "student.stall_timeout_s",
    "teacher.request_timeout_s",
    "teacher.stall_timeout_s",
    "generation.reuse",
    "teacher.api.key_variable",
    "teacher.api.request_timeout_s",
    "teacher.api.max_retries",
    "teacher.api.price_per_million",
    "teacher.api.currency",
    "teacher.api.max_tokens_total",
    "teacher.api.max_cost",
    "generation.rows_per_block",
    "generation.batch_size",
    "generation.max_failed_fraction",
    "training.num_workers",
    "training.cpus_per_worker",
    "training.use_gpu",
    "training.zero_stage",
    "training.micro_batch_size",
    "training.logits_chunk_tokens",
    "training.activation_checkpointing",
    "training.checkpoint_every_steps",
    "training.keep_checkpoints",
    "training.trackers",
    "training.offload",
    "training.max_failures",
)
"""Settings that change where and how fast a run executes, never what it produces; a finished run directory ignores them."""


class Settings(BaseModel):
    """Base of every node of the tree: immutable, unknown keys refused, field docs taken from the strings under the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


class FieldMapping(Settings):
    """Which column of the source holds what."""

    question: str = "question"
    """Column with the problem's text."""
    reference_answer: str | None = None
    """Column with the final answer, used for grading only; null when there is none."""
    reference_solution: str | None = None
    """Column with a worked solution, the target of the `sft` arm; null when there is none."""
    problem_id: str | None = None
    """Column with a unique id; null makes ids from a hash of the question."""


class SourceConfig(Settings):
    """Where problems come from."""

    path: str
    """A .jsonl, .json or .parquet file, a directory of Parquet files or of a saved Hugging Face data set, or a hub name."""
    split: str = "train"
    """Split to read; Hugging Face data sets only."""
    fields: FieldMapping = FieldMapping()
    """Column mapping, e.g. {question: problem, reference_answer: answer}."""
    reference_answer_pattern: str | None = None
    r"""Regular expression whose first group is the final answer inside the mapped column, e.g. '####\s*(.+)' for GSM8K."""
    limit: Count | None = None
    """Take only the first n problems; null takes all."""

    @model_validator(mode="after")
    def _pattern_compiles(self) -> "SourceConfig":
        if self.reference_answer_pattern is not None:
            try:
                groups = re.compile(self.reference_answer_pattern).groups
            except re.error as error:
                raise ValueError(f"reference_answer_pattern {self.reference_answer_pattern!r} is no regular expression: {error}") from None
            if groups < 1:
                raise ValueError(f"reference_answer_pattern {self.reference_answer_pattern!r} has no group; put (...) around the answer")
        return self


SourceT = TypeVar("SourceT", bound=SourceConfig)


class DecontaminationConfig(Settings):
    """Which training problems are removed because a benchmark asks them too."""

    against: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    """The benchmarks, each described like any source of problems; only their questions are compared."""
    ngram: Count = 13
    """A run of so many words in common is an overlap; questions with fewer words must be the same."""


class ProblemsConfig(SourceConfig):
    """The training problems."""

    decontaminate: DecontaminationConfig | None = None
    """Remove problems that overlap with benchmarks, after `limit` is applied; null removes none."""


class SamplingConfig(Settings):
    """How one role decodes."""

    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus sampling mass."""
    top_k: Count | None = None
    """Sample among the k likeliest tokens; null considers all."""
    max_tokens: Count = 1024
    """Longest generation in tokens; one that reaches it is truncated and never trained on."""
    seed: int = 0
    """Base seed; each row's own seed is derived from it, the row's record_id and the stage."""
    stop: tuple[str, ...] = ()
    """Strings that end a generation."""


class PlacementConfig(Settings):
    """How many engines of one role there are and what each of them holds."""

    min_replicas: Count = 1
    """Engines kept at all times."""
    max_replicas: Count = 1
    """Engines Ray Data's actor pool may grow to."""
    cpus_per_replica: Annotated[float, Field(ge=0.0)] = 1.0
    """Ray CPUs reserved by one engine actor."""
    gpus_per_replica: Annotated[int, Field(ge=0)] = 0
    """GPUs of one engine = its tensor-parallel size inside one node; 0 runs vLLM's CPU build."""
    accelerator_type: str | None = None
    """Ray accelerator type to ask for, e.g. H100."""
    label_selector: Mapping[str, str] = Field(default_factory=dict)
    """Ray node labels to ask for, e.g. {ray.io/market-type: on-demand}."""
    requests_in_flight: Count = 128
    """Requests one engine holds at once."""

    @model_validator(mode="after")
    def _min_below_max(self) -> "PlacementConfig":
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} exceeds max_replicas {self.max_replicas}; raise max_replicas")
        return self


class ThinkingConfig(Settings):
    """How a reasoning model marks its thinking."""

    start: str = "<think>"
    """Begins it; the chat template may have written it already."""
    end: str = "</think>"
    """Ends it; the answer follows."""


class ApiConfig(Settings):
    """An OpenAI-compatible endpoint that serves a role, in place of an engine of this project's own."""

    base_url: str
    """Address of the endpoint up to its version, e.g. https://api.openai.com/v1."""
    key_variable: str | None = None
    """Name of the environment variable that holds the key on every node; the key itself is written nowhere. Null sends none."""
    request_timeout_s: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds from the sending of a request to the end of its answer; a slower one is tried again."""
    max_retries: Annotated[int, Field(ge=0)] = 8
    """Further tries after overload, server errors, cut connections and unusable answers, ever longer apart; then the row fails."""
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


class RoleConfig(Settings):
    """One model in one role: student or teacher."""

    model: str
    """Local directory in Hugging Face format (safetensors, tokenizer, chat template) or a hub name; with `api` its name there."""
    api: ApiConfig | None = None
    """Endpoint that serves the model, for the teacher only; null runs it here with vLLM."""
    context_length: Count = 8192
    """Longest prompt plus generation in tokens; an endpoint has its own."""
    sampling: SamplingConfig = SamplingConfig()
    """Decoding settings of this role."""
    placement: PlacementConfig = PlacementConfig()
    """Replicas and their resources."""
    engine: Mapping[str, Any] = Field(default_factory=dict)
    """Further vLLM engine arguments, passed through, e.g. {gpu_memory_utilization: 0.9, dtype: bfloat16}."""
    chat_template_kwargs: Mapping[str, Any] = Field(default_factory=dict)
    """Arguments of the model's chat template, e.g. {enable_thinking: false}."""
    chat_template: str | None = None
    """A .jinja file with the chat template of a model that has none of its own, as base models; it writes a BOS where one belongs."""
    thinking: ThinkingConfig | None = None
    """For reasoning models: {} keeps what they think in a column of its own; a thought that never ends counts as truncated."""
    request_timeout_s: Annotated[float, Field(gt=0.0)] = 1800.0
    """Seconds one generation may take before its row fails."""
    stall_timeout_s: Annotated[float, Field(gt=0.0)] = 300.0
    """An engine that has requests and takes no step for so many seconds is replaced, and its rows are repeated."""

    @model_validator(mode="after")
    def _engine_or_api(self) -> "RoleConfig":
        if self.api is not None and self.engine:
            raise ValueError(f"engine is {dict(self.engine)} and api is set; engine arguments are vLLM's: remove one of the two")
        return self


class GenerationConfig(Settings):
    """The attempt -> critique -> refinement pipeline."""

    num_samples: Count = 1
    """Attempts per problem; each is a row of its own."""
    refine_attempts: Count = 1
    """How often to ask for a refinement while it grades wrong and a reference answer exists; needs a teacher that samples."""
    direct_answers: bool = False
    """Also make the teacher's answer to the problem alone, which arm distilled_sft learns; that arm asks for it by itself."""
    reuse: tuple[str, ...] = ()
    """Finished records of other runs (RUN_DIR/records): columns that this run would make alike are taken from there."""
    rows_per_block: Count = 32
    """Rows per Ray Data block, the unit of durable progress: about what a killed run loses."""
    batch_size: Count = 16
    """Rows handed to an engine actor in one call; several calls are in flight, so a batch is no barrier."""
    max_failed_fraction: Fraction = 0.05
    """More failed rows than this share end the run with an error; what finished is kept."""


class SelectionConfig(Settings):
    """Which records may be trained on."""

    keep: Literal["all", "repaired", "verified"] = "all"
    """all: every sound record, as published; verified: the refinement grades right; repaired: it does, and the attempt grades wrong."""
    drop_leaks: tuple[Literal["answer_in_critique", "refinement_copies_attempt", "refinement_mentions_review"], ...] = ()
    """Leaks whose records are dropped; all are counted, docs/method.md has the table. Empty keeps them, as published."""
    grading_timeout_s: Annotated[float, Field(gt=0.0)] = 5.0
    """Seconds one comparison of two answers may take before it counts as wrong and its worker is killed."""


class ValidationConfig(Settings):
    """Loss on held-out records while the student trains; never on a benchmark."""

    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Share of the problems that is held out: chosen by a hash of the problem's id, so the same for every arm, seed, budget
    and run."""
    every_steps: Count
    """Steps between looks at the held-out loss; the last step is always followed by one."""


class LoraConfig(Settings):
    """Low-rank adapters in place of full fine-tuning; they are merged into the weights on export."""

    rank: Count = 16
    """Inner size of each adapter."""
    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    """An adapter's output is scaled by alpha / rank."""
    dropout: Fraction = 0.0
    """Share of an adapter's inputs that is dropped while training."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get adapters, e.g. [q_proj, v_proj]; all-linear takes all but the output layer."""


class TrainingConfig(Settings):
    """From selected records to an exported student."""

    arm: Arm = "cgd"
    """What the student sees and what it learns to produce; docs/method.md has the table. A mapping such as {cgd: 0.8, refined_only: 0.2}
    gives each record one arm, drawn with these shares."""
    critiques: Literal["specific", "shuffled", "generic", "none"] = "specific"
    """Which critique the arm cgd sees: its own, another problem's of the same verdict and about the same length, advice without content
    (template generic_critique), or none."""
    verdict_mix: VerdictMix | None = None
    """Shares of right and wrong verdicts among the examples, e.g. {right: 0.5, wrong: 0.5}: as many records as keep them, to within one.
    Records without a verdict are left out. Null takes the records as they are. Give max_examples to compare mixes of one size."""
    max_examples: Count | None = None
    """Train on at most so many examples; null on all. The order in which records are taken depends on seed alone, so all arms see the
    same problems."""
    max_target_tokens: Count | None = None
    """Train on at most so many tokens with loss, counted once for all epochs; the order is that of max_examples. Null on all."""
    context_length: Count = 4096
    """Tokens in one packed row; an example longer than this loses the end of its attempt or, where that is not enough, is dropped and
    counted."""
    num_epochs: Count = 1
    """Passes over the examples."""
    global_batch_size: Count = 64
    """Packed rows per optimizer step over all workers."""
    micro_batch_size: Count = 1
    """Packed rows per worker in one forward pass; global_batch_size must be a multiple of micro_batch_size x num_workers, for every
    size in the range when num_workers is one."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-6
    """Peak rate."""
    warmup_fraction: Fraction = 0.03
    """Share of the steps in which the rate rises linearly to its peak; a cosine follows."""
    final_learning_rate_fraction: Fraction = 0.1
    """Rate at the last step as a share of the peak."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """AdamW's decoupled decay."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's moments."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16 keeps fp32 master weights in the optimizer."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 2
    """DeepSpeed ZeRO: 1 shards optimizer state, 2 also gradients, 3 also parameters."""
    num_workers: Workers = 1
    """Ray Train workers, one process each; [fewest, most] takes what the cluster has, and follows it: the training goes on from its
    newest checkpoint with more or fewer workers."""
    cpus_per_worker: Annotated[float, Field(ge=0.0)] = 1.0
    """Ray CPUs reserved by one worker."""
    use_gpu: bool = False
    """One GPU per worker."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    logits_chunk_tokens: Count = 2048
    """Target positions whose logits exist at once; bounds peak memory at this times the vocabulary."""
    checkpoint_every_steps: Count | None = None
    """Steps between checkpoints, which are written while the training goes on; null saves at the end of the training only."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that are kept, more than one in case the newest turns out damaged; besides, the best by held-out loss is."""
    validation: ValidationConfig | None = None
    """Held-out loss while training; null trains on everything."""
    export: Literal["last", "best"] = "last"
    """Which weights become the trained student: the last step's, or those of the checkpoint with the least held-out loss."""
    lora: LoraConfig | None = None
    """Train low-rank adapters only; null trains all weights. Needs the extra `lora`."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """Keep the optimizer's state in host memory (ZeRO 1 to 3), with `parameters` the weights too (ZeRO 3): slower, for large models."""
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    """Where metrics go besides metrics.jsonl; mlflow and wandb need the extra `trackers`."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """Worker-group failures after which Ray Train gives up; each resumes from the newest checkpoint."""
    seed: int = 0
    """Order of the packed rows; which records are taken within a budget, which arm they get, whose critique when shuffled."""

    @property
    def arm_shares(self) -> dict[ArmName, float]:
        """Share of the records that each arm gets; they add up to 1."""
        shares: Mapping[ArmName, float] = {self.arm: 1.0} if isinstance(self.arm, str) else self.arm
        return {name: share for name, share in shares.items() if share > 0}

    @property
    def arm_label(self) -> str:
        """Arm and kind of critiques in a few words, e.g. "cgd" or "0.8 cgd + 0.2 refined_only (shuffled critiques)"."""
        arms = self.arm if isinstance(self.arm, str) else " + ".join(f"{share:g} {name}" for name, share in self.arm.items())
        return arms if self.critiques == "specific" else f"{arms} ({self.critiques} critiques)"

    @model_validator(mode="after")
    def _critiques_have_an_arm(self) -> "TrainingConfig":
        if self.critiques != "specific" and "cgd" not in self.arm_shares:
            raise ValueError(
                f"critiques is {self.critiques}, which changes what the arm cgd sees, but arm is {self.arm}; "
                "set critiques to specific or arm to cgd"
            )
        return self

    @property
    def worker_range(self) -> tuple[int, int]:
        """Fewest and most workers; the same number twice when it is fixed."""
        return (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers

    @model_validator(mode="after")
    def _batch_divides(self) -> "TrainingConfig":
        fewest, most = self.worker_range
        unit = math.lcm(*(self.micro_batch_size * size for size in range(fewest, most + 1)))
        if self.global_batch_size % unit:
            nearest = max(unit, self.global_batch_size // unit * unit)
            workers = f"{fewest}" if fewest == most else f"every size in {[fewest, most]}"
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is no multiple of micro_batch_size {self.micro_batch_size} x "
                f"num_workers {workers} = {unit}; {nearest} would do"
            )
        return self

    @model_validator(mode="after")
    def _offload_fits_the_stage(self) -> "TrainingConfig":
        least = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < least:
            raise ValueError(f"offload {self.offload} needs zero_stage {least} or more, zero_stage is {self.zero_stage}; raise it")
        return self

    @model_validator(mode="after")
    def _best_is_known(self) -> "TrainingConfig":
        if self.export == "best" and (self.validation is None or self.checkpoint_every_steps is None):
            lacking = "validation" if self.validation is None else "checkpoint_every_steps"
            raise ValueError(f"export is best but {lacking} is null, so there is nothing to choose by or from; set it, or export last")
        return self


class EvaluationConfig(Settings):
    """Prompt-only evaluation: the problem alone, no critique."""

    problems: SourceConfig
    """Held-out problems with a reference answer."""
    sampling: SamplingConfig = SamplingConfig()
    """Decoding of both models."""
    num_samples: Count = 1
    """Answers per problem; pass@1 is their mean."""


class ClusterConfig(Settings):
    """The Ray cluster."""

    address: str | None = None
    """Address of a running cluster, or auto for the one on this machine; null takes RAY_ADDRESS (a Ray job has it) or starts Ray here."""
    num_cpus: Count | None = None
    """Logical CPUs when Ray is started on this machine; null takes the real number."""


class Config(Settings):
    """A whole run."""

    run_dir: str
    """Directory that receives everything; on shared storage when the cluster has several nodes."""
    problems: ProblemsConfig
    """Training problems."""
    student: RoleConfig
    """The model that attempts, and that is trained."""
    teacher: RoleConfig
    """The model that critiques and refines."""
    records: str | None = None
    """Directory with the finished records of another run (RUN_DIR/records): they are selected and trained on, none are generated."""
    prompts: str | None = None
    """YAML file that overrides any wording of cgd_ray/prompts.py; null keeps the defaults."""
    generation: GenerationConfig = GenerationConfig()
    """The generation pipeline."""
    selection: SelectionConfig = SelectionConfig()
    """What may be trained on."""
    training: TrainingConfig = TrainingConfig()
    """The training."""
    evaluation: EvaluationConfig | None = None
    """Null skips the evaluation."""
    cluster: ClusterConfig = ClusterConfig()
    """The Ray cluster."""

    @property
    def wants_direct(self) -> bool:
        """Whether generation makes the teacher's direct answers."""
        return self.generation.direct_answers or "distilled_sft" in self.training.arm_shares

    @model_validator(mode="after")
    def _repetitions_differ(self) -> "Config":
        attempts = self.generation.refine_attempts
        if attempts > 1 and self.teacher.sampling.temperature == 0:
            raise ValueError(
                f"generation.refine_attempts {attempts} with teacher.sampling.temperature 0 would repeat one and the same refinement; "
                "set a temperature, or refine_attempts to 1"
            )
        return self

    @model_validator(mode="after")
    def _student_is_here(self) -> "Config":
        if self.student.api is not None:
            raise ValueError(f"student.api is {self.student.api.base_url}, but the student is trained and cannot be elsewhere; remove it")
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=c` overrides, resolve paths and validate.

    Relative paths are taken from the current directory. Raises ValueError with one line per problem that names the key, the value
    and the remedy.
    """
    source = Path(path)
    if not source.is_file():
        raise ValueError(f"config {source} does not exist; jobs/configs/ holds examples")
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"config {source} is no valid YAML: {_one_line(error)}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"config {source} holds {type(tree).__name__}, not a mapping of settings")
    for override in overrides:
        _apply_override(tree, override)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(tree, item) for item in error.errors())) from None
    return _with_absolute_paths(config)


def to_yaml(config: Config, with_docs: bool = False) -> str:
    """The config as YAML, optionally with each field's documentation as a comment above it."""
    if not with_docs:
        return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return "\n".join(_documented_lines(config, indent=0)) + "\n"


def differing_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of every setting that differs and that changes what a run produces."""
    old_leaves, new_leaves = dict(_leaves(old)), dict(_leaves(new))
    keys = [key for key in {**old_leaves, **new_leaves} if not key.startswith(EXECUTION_ONLY)]
    return [(key, old_leaves.get(key), new_leaves.get(key)) for key in keys if old_leaves.get(key) != new_leaves.get(key)]


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ValueError(f"override {override!r} is not of the form a.b=c")
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        child = {} if node.get(parent) is None else node[parent]
        if not isinstance(child, dict):
            raise ValueError(f"override {override!r}: {parent} is a value, not a group of settings")
        node[parent] = dict(child)  # a copy: a YAML anchor makes one mapping the value of several keys
        node = node[parent]
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"override {override!r}: the value is no valid YAML ({_one_line(error)}); put it in single quotes") from None


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())


def _explain(tree: Any, item: Mapping[str, Any]) -> str:
    """One line for one pydantic error; an unknown key gets the nearest valid name."""
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        valid = _valid_names(location[:-1])
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"valid here: {', '.join(valid)}"
        return f"unknown setting {key}; {hint}"
    if item["type"] == "missing":
        return f"setting {key} is missing; add it to the config or give {key}=VALUE"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{key or 'config'}: {message}"
    return f"setting {key} is {item['input']!r}: {message}"


def _valid_names(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        if part.isdigit():  # a place in a list of settings
            continue
        inner = _settings_class(model.model_fields[part].annotation)
        assert inner is not None, f"{part} has no fields of its own"
        model = inner
    return list(model.model_fields)


def _settings_class(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) in {typing.Union, tuple}:
        return next((found for found in map(_settings_class, typing.get_args(annotation)) if found), None)
    return None


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _with_absolute_paths(config: Config) -> Config:
    """Workers do not share the driver's current directory, so every local path becomes absolute."""

    def absolute(path: str) -> str:
        return str(Path(path).absolute()) if Path(path).exists() else path

    def source(of: SourceT) -> SourceT:
        return of.model_copy(update={"path": absolute(of.path)})

    def problems(of: ProblemsConfig) -> ProblemsConfig:
        if of.decontaminate is None:
            return source(of)
        against = tuple(source(benchmark) for benchmark in of.decontaminate.against)
        return source(of).model_copy(update={"decontaminate": of.decontaminate.model_copy(update={"against": against})})

    def role(source: RoleConfig) -> RoleConfig:
        if source.api is not None:
            return source
        template = None if source.chat_template is None else str(Path(source.chat_template).absolute())
        return source.model_copy(update={"model": absolute(source.model), "chat_template": template})

    update: dict[str, Any] = {
        "run_dir": str(Path(config.run_dir).absolute()),
        "problems": problems(config.problems),
        "student": role(config.student),
        "teacher": role(config.teacher),
    }
    reuse = tuple(str(Path(source).absolute()) for source in config.generation.reuse)
    update["generation"] = config.generation.model_copy(update={"reuse": reuse})
    update |= {name: str(Path(value).absolute()) for name in ("prompts", "records") if (value := getattr(config, name)) is not None}
    if config.evaluation is not None:
        update["evaluation"] = config.evaluation.model_copy(update={"problems": source(config.evaluation.problems)})
    return config.model_copy(update=update)


def _documented_lines(settings: BaseModel, indent: int) -> Iterator[str]:
    pad = "  " * indent
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        for line in (field.description or "").splitlines():
            yield f"{pad}# {line}"
        if isinstance(value, BaseModel):
            yield f"{pad}{name}:"
            yield from _documented_lines(value, indent + 1)
        else:
            plain = settings.model_dump(mode="json", include={name})[name]
            yield f"{pad}{name}: {_flow(plain)}"
            if value is None and (inner := _settings_class(field.annotation)) is not None:
                yield from (f"{pad}#{line}" for line in _documented_defaults(inner, 1))


def _documented_defaults(model: type[BaseModel], indent: int) -> Iterator[str]:
    """What may be written in a group that is null now."""
    pad = "  " * indent
    for name, field in model.model_fields.items():
        for line in (field.description or "").splitlines():
            yield f"{pad}# {line}"
        if (inner := _settings_class(field.annotation)) is not None:
            yield f"{pad}{name}:"
            yield from _documented_defaults(inner, indent + 1)
        else:
            yield f"{pad}{name}: {'must be given' if field.is_required() else _flow(field.get_default(call_default_factory=True))}"


def _flow(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump([plain], default_flow_style=True, allow_unicode=True, width=1000, sort_keys=False).strip()[1:-1]
