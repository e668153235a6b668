"""A whole run: the root of the tree, and which of its settings say only where and how fast it executes."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cgd_ray.config.base import Added, Count, Fraction, Settings
from cgd_ray.config.evaluation import DiagnosticsConfig, EvaluationConfig
from cgd_ray.config.problems import ProblemsConfig
from cgd_ray.config.roles import MEMORY_ARGUMENTS, RoleConfig
from cgd_ray.config.training import TrainingConfig

EXECUTION_ONLY = (
    "run_dir",
    "working_dir",
    "cluster",
    "diagnostics",
    "student.placement",
    "teacher.placement",
    *(f"{role}.engine.{argument}" for role in ("student", "teacher") for argument in MEMORY_ARGUMENTS),
    "student.request_timeout_s",
    "student.stall_timeout_s",
    "teacher.request_timeout_s",
    "teacher.stall_timeout_s",
    "generation.reuse",
    "teacher.api.key_variable",
    "teacher.api.request_timeout_s",
    "teacher.api.max_retries",
    "teacher.api.price_per_million_input_tokens",
    "teacher.api.price_per_million_cached_tokens",
    "teacher.api.price_per_million_output_tokens",
    "teacher.api.currency",
    "teacher.api.max_tokens_total",
    "teacher.api.max_cost",
    "generation.rows_per_block",
    "generation.batch_size",
    "generation.max_failed_fraction",
    "generation.teacher_check",
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
    "training.deterministic",  # which kernels run, as use_gpu and zero_stage: the same numbers but for rounding
    "training.collective_timeout_s",
    "training.validation.answers.placement",
    "evaluation.benchmarks",  # each evaluation's answers and grades are kept under fingerprints of their own
    "evaluation.k",
    "evaluation.grader",
)
"""Settings, and groups of them, that change where and how fast a run executes, or what is asked of its models afterwards, never what it
produces; a finished run directory ignores them."""


def is_execution_only(key: str) -> bool:
    """Whether a setting (dotted key) is one of EXECUTION_ONLY or in a group of them."""
    return any(key == name or key.startswith(f"{name}.") for name in EXECUTION_ONLY)


class TeacherCheckConfig(Settings):
    """A look at what the teacher makes of the first rows, before all of them are paid for."""

    rows: Count = 50
    """Rows that are looked at, the first that are finished. A run of fewer is told the figures of all and is not stopped by them."""
    least: Fraction = 0.05
    """The run stops where less than this share of the rows can be trained on, of the critiques conclude, or, where there is a reference
    answer, of the verdicts or the refinements are right; 0 never stops. Of a teacher that solves a fifth of the problems, one in a
    thousand would be stopped by 50 rows."""


class GenerationConfig(Settings):
    """The attempt -> critique -> refinement pipeline."""

    num_samples: Count = 1
    """Attempts per problem; each is a row of its own. More than one need a student that samples."""
    refine_attempts: Count = 1
    """How often to ask for a refinement while it grades wrong and a reference answer exists; needs a teacher that samples."""
    structured_verdict: Annotated[bool, Added()] = False
    """Have the teacher's engine choose the conclusion of each critique, right or wrong, by vLLM's structured outputs, in place of the one
    that it wrote or left out: every critique then has a verdict. Not for an endpoint."""
    direct_answers: bool = False
    """Also make the teacher's answer to the problem alone, which arm distilled_sft learns; that arm asks for it by itself."""
    reuse: tuple[str, ...] = ()
    """Records of other runs (RUN_DIR/records), finished or not: columns that this run would make alike are taken from there."""
    rows_per_block: Count = 32
    """Least rows of a part of the records, the unit of durable progress. A killed run loses these and what is in flight: with each engine
    about four times its requests_in_flight."""
    batch_size: Count = 16
    """Most rows handed to an engine actor in one call; several calls are in flight, so a batch is no barrier. Each call costs Ray about
    20 ms of CPU over all stages: engines that finish hundreds of rows a second want larger ones."""
    max_failed_fraction: Fraction = 0.05
    """More failed rows than this share of all end the run, as soon as there are so many; what finished is kept."""
    teacher_check: TeacherCheckConfig | None = TeacherCheckConfig()
    """Null makes none."""


CutAttempts = Literal["use", "drop"]


class SelectionConfig(Settings):
    """Which records may be trained on."""

    keep: Literal["all", "repaired", "verified"] = "all"
    """all: every sound record, as published; verified: the refinement grades right; repaired: it does, and the attempt grades wrong."""
    cut_attempts: CutAttempts = "use"
    """What becomes of an attempt that was cut at its token limit: use, it is a flawed response like others and is criticised, refined and
    trained on, as published; drop, its row gets no further turns. Critiques and refinements that were cut are never used."""
    drop_leaks: tuple[Literal["answer_in_critique", "refinement_copies_attempt", "refinement_mentions_review"], ...] = ()
    """Leaks whose records are dropped; all are counted, docs/method.md has the table. Empty keeps them, as published."""
    grading_timeout_s: Annotated[float, Field(gt=0.0)] = 5.0
    """Seconds one comparison of two answers may take before it counts as wrong and its worker is killed."""


class ClusterConfig(Settings):
    """The Ray cluster."""

    address: str | None = None
    """Address of a running cluster, or auto for the one on this machine; null takes RAY_ADDRESS (a Ray job has it) or starts Ray here."""
    num_cpus: Count | None = None
    """Logical CPUs when Ray is started on this machine; null takes the real number."""
    max_resources: Mapping[str, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)
    """What an autoscaler may bring all nodes together to, e.g. {GPU: 16, CPU: 512}, so that a plan for more than there is now waits and is
    not refused. Ray itself does not tell its autoscaler's limits. Empty: there is none."""
    allow_open_dashboard: bool = False
    """Connect to a cluster that wants no token though other machines reach its dashboard, and with it run what they like on its nodes."""


class Config(Settings):
    """A whole run."""

    run_dir: str
    """Directory that receives everything; on shared storage when the cluster has several nodes. Or an object store's URL (s3://, gs://,
    az://, abfs://), to which a copy of the directory in `working_dir` is published every few seconds."""
    working_dir: str | None = None
    """Where the working copy of a run_dir that is a URL lies, on shared storage when the cluster has several nodes; null takes
    ~/.cache/cgd_ray/runs."""
    problems: ProblemsConfig
    """Training problems."""
    student: RoleConfig
    """The model that attempts, and that is trained."""
    teacher: RoleConfig
    """The model that critiques and refines."""
    records: str | None = None
    """Directory with the records of another run (RUN_DIR/records): what is there of them is trained on, and nothing is generated."""
    prompts: str | None = None
    """Wording: a set for a family of models (default, qwen, llama3, or small for models below 2B; cgd_ray/data/prompts/sets/ has them and
    says why), or a YAML file that overrides any template of cgd_ray/data/prompts/wording.py. Null is default."""
    generation: GenerationConfig = GenerationConfig()
    """The generation pipeline."""
    selection: SelectionConfig = SelectionConfig()
    """What may be trained on."""
    training: TrainingConfig = TrainingConfig()
    """The training."""
    evaluation: EvaluationConfig | None = None
    """Null skips the evaluation."""
    diagnostics: Annotated[DiagnosticsConfig, Added()] = DiagnosticsConfig()
    """What `cgd diagnose` measures."""
    cluster: ClusterConfig = ClusterConfig()
    """The Ray cluster."""

    @property
    def wants_direct(self) -> bool:
        """Whether generation makes the teacher's direct answers."""
        return self.generation.direct_answers or "distilled_sft" in self.training.arm_shares

    @property
    def answering_student(self) -> RoleConfig | None:
        """The student as it answers held-out problems while it trains, but for the model; None where it does not."""
        answers = None if self.training.validation is None else self.training.validation.answers
        if answers is None:
            return None
        one = self.student.placement.model_copy(update={"min_replicas": 1, "max_replicas": 1})
        placement = answers.placement or one
        return self.student.model_copy(update={"sampling": answers.sampling, "placement": placement, "adapter": None})  # merged by then

    @model_validator(mode="after")
    def _there_is_something_to_stream(self) -> "Config":
        if self.training.streaming and self.records is not None:
            raise ValueError(
                f"training.streaming is true and records is {self.records}, which is finished, so there is nothing to wait for; "
                "set training.streaming to false"
            )
        return self

    @model_validator(mode="after")
    def _repetitions_differ(self) -> "Config":
        repeated = (("num_samples", "student", self.student, "attempt"), ("refine_attempts", "teacher", self.teacher, "refinement"))
        for name, role_name, role, what in repeated:
            count = getattr(self.generation, name)
            if count > 1 and role.sampling.temperature == 0:
                raise ValueError(
                    f"generation.{name} {count} with {role_name}.sampling.temperature 0 would repeat one and the same {what}; "
                    f"set a temperature, or {name} to 1"
                )
        return self

    @model_validator(mode="after")
    def _who_concludes_is_here(self) -> "Config":
        if self.generation.structured_verdict and self.teacher.api is not None:
            raise ValueError(
                f"generation.structured_verdict is true and teacher.api is {self.teacher.api.base_url}, which cannot be held to a choice; "
                "set it to false: verdicts are then read from the critiques"
            )
        return self

    @model_validator(mode="after")
    def _student_is_here(self) -> "Config":
        if self.student.api is not None:
            raise ValueError(f"student.api is {self.student.api.base_url}, but the student is trained and cannot be elsewhere; remove it")
        return self
